/** The public API. */
export type { PauseMode } from './engines/admin.js';
export { type ErrorCode, hasCode, WeightcastError } from './errors.js';
export * from './inference/index.js';
export * from './operations/index.js';
export * from './update/index.js';
