/** vLLM's two formats: packed chunks, or one broadcast a tensor. The receiver derives every broadcast from the list that is declared to it. */
import type { Packing, TensorSpec } from '../../../engines/admin.js';
import type { Tensor } from '../../../weights/tensor.js';
import type { Steps } from '../../../weights/yielding.js';
import { sizesOf, type WirePlan } from './frame.js';
import { packed, packedFrames, packedOrder } from './packed.js';
import { perTensor, perTensorFrames } from './per-tensor.js';
import { refuseUnsendable } from './refusal.js';

const TENSORS_PER_STEP = 2048;

/** Plans one update in slices. @throws WeightcastError WC_TENSOR_UNSENDABLE */
export function* vllmSteps(tensors: readonly Tensor[], packing: Packing | null): Steps<WirePlan> {
  if (packing === null) refuseUnsendable(tensors, perTensor, packed);
  else refuseUnsendable(tensors, packed, perTensor);
  yield;
  const order = packing === null ? tensors : packedOrder(tensors, packing.bufferBytes);
  yield;
  const frames = packing === null ? perTensorFrames(order) : packedFrames(order, packing.bufferBytes);
  yield;
  const sizes = sizesOf(frames);
  const specs: TensorSpec[] = [];
  for (const { name, dtype, shape } of order) {
    if (specs.push({ name, dtypeName: dtype.torchName as string, shape }) % TENSORS_PER_STEP === 0) yield;
  }
  return { tensors: specs, frames, ...sizes };
}
