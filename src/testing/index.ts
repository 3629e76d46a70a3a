/**
 * `weightcast/testing`: reference engines for your own CI, with no GPU. They are real HTTP servers over real worker processes that
 * join by the store protocol and the NCCL ABI, and behave like the vLLM version that they are told to be, errors and death included.
 *
 * @module
 */
export {
  type DynamoWorkerOptions,
  ReferenceDynamo,
  type ReferenceDynamoOptions,
  startReferenceDynamo,
} from './dynamo/dynamo.js';
export type { DynamoFaults, RouteFault } from './dynamo/faults.js';
export type { RlState } from './dynamo/process.js';
export { ReferenceDynamoWorker } from './dynamo/worker.js';
export {
  type EngineExit,
  ReferenceEngine,
  type ReferenceEngineOptions,
  startReferenceEngine,
} from './engine.js';
export type { ReferenceFaults } from './faults.js';
export type { RecordedExchange } from './listen.js';
export type { PrimeRlFaults, PrimeRlRouteFault } from './prime-rl/faults.js';
export { PRIME_RL_RELEASES, type PrimeRlRelease } from './prime-rl/releases.js';
export { type ReferencePrimeRlOptions, startReferencePrimeRl } from './prime-rl/start.js';
export type { EngineState } from './server/core.js';
export { VLLM_VERSIONS, type VllmVersion } from './server/profile.js';
export { type SimulatedFleet, type SimulateOptions, simulateFleet } from './simulate.js';
export { tinyTensors, writeTinyModel } from './tiny-model.js';
