export { UpdateError } from './error.js';
export { connectFleet, FleetSession, pushWeights } from './session.js';
export * from './types.js';
