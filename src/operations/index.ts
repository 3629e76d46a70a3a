/** Single operations on engines, without a fleet or a session: what prime-rl's client offers as functions. */
export type { AdminApi, EngineName, OperationOptions } from './engines.js';
export { type FollowOptions, followTrainer } from './follow.js';
export { type FollowFilesOptions, followTrainerFiles } from './follow-files.js';
export { type BroadcasterOptions, initBroadcaster } from './group.js';
export { checkHealth, type HealthOptions, listModels, maybeCheckHasModel } from './health.js';
export {
  openPrimeRlSender,
  PrimeRlSender,
  type PrimeRlSenderOptions,
  type SendEvent,
  type SendOptions,
  type SendReport,
} from './sender.js';
export {
  loadLoraAdapter,
  type PauseOptions,
  pause,
  resume,
  type UpdateWeightsOptions,
  unloadLoraAdapter,
  updateWeights,
} from './update.js';
