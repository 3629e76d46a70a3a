export type { AdapterOptions, AdapterReport } from './adapters.js';
export { UpdateError } from './error.js';
export { connectFleet, FleetSession, pushWeights } from './session.js';
export * from './types.js';
