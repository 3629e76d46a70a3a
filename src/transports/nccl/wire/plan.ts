/** From tensors to what is declared to the engines and what is broadcast: one pure function over the wire formats of vLLM. */
import type { Packing, TensorSpec } from '../../../engines/admin.js';
import type { Tensor } from '../../../weights/tensor.js';
import { runToEnd, type Steps } from '../../../weights/yielding.js';
import type { Frame } from './frame.js';
import { packed, packedFrames, packedOrder } from './packed.js';
import { perTensor, perTensorFrames } from './per-tensor.js';
import { refuseUnsendable } from './refusal.js';

const TENSORS_PER_STEP = 2048;

export interface WirePlan {
  /** The list to declare, in the order of the bytes: the receiver derives every broadcast from it. */
  readonly tensors: readonly TensorSpec[];
  /** One broadcast each, in order. */
  readonly frames: readonly Frame[];
  readonly byteLength: number;
  /** Bytes of the largest frame: no staging slot can be smaller. */
  readonly largestFrame: number;
}

/**
 * Plans one update. With `packing` null every tensor is one broadcast; else tensors are packed into chunks by the receiver's rule. The
 * given order is kept, except where a packed list of mixed element sizes would leave a tensor where the receiver cannot view it.
 *
 * @throws WeightcastError WC_TENSOR_UNSENDABLE, naming the tensors and the option that can carry them
 * @example
 * ```ts
 * const plan = planWire(orderForLoading(checkpoint.tensors), { bufferBytes: 256 * 2 ** 20, numBuffers: 2 });
 * ```
 */
export function planWire(tensors: readonly Tensor[], packing: Packing | null): WirePlan {
  return runToEnd(planSteps(tensors, packing));
}

/** The same, to be run in slices. */
export function* planSteps(tensors: readonly Tensor[], packing: Packing | null): Steps<WirePlan> {
  if (packing === null) refuseUnsendable(tensors, perTensor, packed);
  else refuseUnsendable(tensors, packed, perTensor);
  yield;
  const order = packing === null ? tensors : packedOrder(tensors, packing.bufferBytes);
  yield;
  const frames = packing === null ? perTensorFrames(order) : packedFrames(order, packing.bufferBytes);
  yield;
  let byteLength = 0;
  let largestFrame = 0;
  for (const frame of frames) {
    byteLength += frame.byteLength;
    largestFrame = Math.max(largestFrame, frame.byteLength);
  }
  const specs: TensorSpec[] = [];
  for (const { name, dtype, shape } of order) {
    if (specs.push({ name, dtypeName: dtype.torchName as string, shape }) % TENSORS_PER_STEP === 0) yield;
  }
  return { tensors: specs, frames, byteLength, largestFrame };
}
