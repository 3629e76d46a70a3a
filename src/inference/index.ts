/** Clients that generate and score by token ids. */
export { type CallOptions, InferenceClient, type InferenceClientOptions } from './client.js';
export { computeTeacherLogprobs, type TeacherOptions, type TeacherSample } from './teacher.js';
export type {
  GenerateRequest,
  Generation,
  InferenceTransport,
  TokenRequest,
  VersionSpan,
  WeightVersion,
} from './types.js';
