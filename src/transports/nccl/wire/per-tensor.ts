/** vLLM's per-tensor format (contracts/vllm.md 1.6): one broadcast a tensor, in the order of the list. */
import type { Tensor } from '../../../weights/tensor.js';
import type { Frame } from './frame.js';
import type { Encoding } from './refusal.js';

/**
 * torch dtypes that the receiver's map to NCCL types has (contracts/vllm.md section 4). Any other raises in the worker in the middle of the
 * stream, and the sender would wait for ever.
 */
const SENDABLE: ReadonlySet<string> = new Set([
  'int8',
  'uint8',
  'int32',
  'int64',
  'float16',
  'float32',
  'float64',
  'bfloat16',
  'float8_e4m3fn',
]);

export const perTensor: Encoding = {
  name: 'per-tensor',
  option: '--no-packed',
  refusal: ({ dtype }) =>
    dtype.torchName !== null && SENDABLE.has(dtype.torchName) ? null : `dtype ${dtype.name}`,
};

/** A tensor without elements is a broadcast of 0 bytes: NCCL launches nothing for it, on either side. */
export function perTensorFrames(tensors: readonly Tensor[]): Frame[] {
  return tensors.map(({ range }) => ({ ranges: [range], byteLength: range.byteLength }));
}
