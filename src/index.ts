/** The public API. */
export { type PrimeRlConfig, type PrimeRlDiscovery, readPrimeRlFile } from './config/prime-rl.js';
export type { PauseMode } from './engines/admin.js';
export { type ErrorCode, hasCode, WeightcastError } from './errors.js';
export type { ElasticMetrics } from './fleet/elastic/metrics.js';
export type { ElasticPool, EngineView } from './fleet/elastic/pool.js';
export type { MemberState, PoolPolicy } from './fleet/elastic/state.js';
export type { DiscoverSpec, ElasticSpec } from './fleet/specs.js';
export * from './inference/index.js';
export * from './operations/index.js';
export * from './transports/filesystem/follow/index.js';
export * from './transports/filesystem/prime-rl/index.js';
export * from './transports/filesystem/publish/index.js';
export * from './transports/filesystem/published/index.js';
export * from './transports/filesystem/retention/index.js';
export * from './update/index.js';
export { type Checkpoint, type CheckpointFile, openCheckpoint, type Tensor } from './weights/index.js';
