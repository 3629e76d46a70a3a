/** Weights: where they are, what they are, in which order they travel, and how their arrival is proved. */
export { type Checkpoint, type CheckpointFile, openCheckpoint } from './checkpoint.js';
export { DTYPES, type DType } from './dtype.js';
export { orderForLoading } from './order.js';
export { candidatesFor, judge, narrow, type ProofPlan, type ProofVerdict, toHashJob } from './proof.js';
export { readSafetensorsHeader, type SafetensorsFile } from './safetensors.js';
export type { ByteRange, DeviceRange, FileRange, HostRange, Tensor } from './tensor.js';
export { type TensorToWrite, type WriteOptions, type WrittenCheckpoint, writeCheckpoint } from './write.js';
