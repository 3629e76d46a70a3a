export type { AdapterOptions, AdapterReport } from './adapters.js';
export { UpdateError } from './error.js';
export { type RecoverOptions, type RecoveryReport, recoverFleet } from './recover.js';
export { connectFleet, FleetSession, pushWeights } from './session.js';
export * from './types.js';
