import type { DType } from '../../../weights/dtype.js';

/**
 * torch dtypes that the receiver's map to NCCL types has (vLLM's PyNcclCommunicator, which prime-rl uses too: contracts/vllm.md section 4). Any other raises in
 * the worker in the middle of the stream, and the sender would wait for ever.
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

/** Why tensors of this dtype can't be broadcast as themselves; null when they can. */
export function dtypeRefusal({ torchName, name }: DType): string | null {
  return torchName !== null && SENDABLE.has(torchName) ? null : `dtype ${name}`;
}
