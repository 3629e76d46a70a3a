/** vLLM's per-tensor format (contracts/vllm.md 1.6): one broadcast a tensor, in the order of the list. */
import type { Tensor } from '../../../weights/tensor.js';
import type { Frame } from './frame.js';
import { dtypeRefusal } from './pynccl-dtypes.js';
import type { Encoding } from './refusal.js';

export const perTensor: Encoding = {
  name: 'per-tensor',
  option: '--no-packed',
  refusal: ({ dtype }) => dtypeRefusal(dtype),
};

/** A tensor without elements is a broadcast of 0 bytes: NCCL launches nothing for it, on either side. */
export function perTensorFrames(tensors: readonly Tensor[]): Frame[] {
  return tensors.map(({ range }) => ({ ranges: [range], byteLength: range.byteLength }));
}
