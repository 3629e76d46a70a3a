/** From tensors to what is declared to the engines and what is broadcast: one pure function for each wire format. */
import type { Packing, WireFormat } from '../../../engines/admin.js';
import type { Tensor } from '../../../weights/tensor.js';
import { runToEnd, type Steps } from '../../../weights/yielding.js';
import type { WirePlan } from './frame.js';
import { primeRlSteps } from './prime-rl.js';
import { vllmSteps } from './vllm.js';

export type { WirePlan } from './frame.js';

type PlanSteps = (tensors: readonly Tensor[], packing: Packing | null) => Steps<WirePlan>;

const FORMATS: Readonly<Record<WireFormat, PlanSteps>> = { vllm: vllmSteps, 'prime-rl': primeRlSteps };

/**
 * Plans one update. In vLLM's format every tensor is one broadcast with `packing` null; else tensors are packed into chunks by the receiver's rule. The
 * given order is kept, except where a packed list of mixed element sizes would leave a tensor where the receiver cannot view it. In prime-rl's format `packing`
 * bounds a state dict.
 *
 * @throws WeightcastError WC_TENSOR_UNSENDABLE, naming the tensors and the option that can carry them
 * @example
 * ```ts
 * const plan = planWire(orderForLoading(checkpoint.tensors), { bufferBytes: 256 * 2 ** 20, numBuffers: 2 });
 * ```
 */
export function planWire(
  tensors: readonly Tensor[],
  packing: Packing | null,
  wire: WireFormat = 'vllm',
): WirePlan {
  return runToEnd(planSteps(wire, tensors, packing));
}

/** The same, to be run in slices. */
export function planSteps(
  wire: WireFormat,
  tensors: readonly Tensor[],
  packing: Packing | null,
): Steps<WirePlan> {
  return FORMATS[wire](tensors, packing);
}
