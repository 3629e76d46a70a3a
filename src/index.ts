/** The public API. */
export { type PrimeRlConfig, type PrimeRlDiscovery, readPrimeRlFile } from './config/prime-rl.js';
export type { PauseMode } from './engines/admin.js';
export { type ErrorCode, hasCode, WeightcastError } from './errors.js';
export * from './inference/index.js';
export * from './operations/index.js';
export * from './transports/filesystem/prime-rl/index.js';
export * from './update/index.js';
