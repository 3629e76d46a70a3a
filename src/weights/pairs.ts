/** Two versions of one model, tensor by tensor. */
import { WeightcastError } from '../errors.js';
import type { Checkpoint } from './checkpoint.js';
import type { Tensor } from './tensor.js';
import type { Steps } from './yielding.js';

export interface TensorPair {
  readonly base: Tensor;
  readonly next: Tensor;
}

const TENSORS_PER_STEP = 4096;
const SHOWN = 5;

/**
 * Pairs the tensors of two versions by name, in the order of the new one.
 *
 * @throws WeightcastError WC_DELTA_BASE, naming tensors that are new, gone, or of another shape or dtype
 */
export function* pairSteps(
  base: Pick<Checkpoint, 'tensors'>,
  next: Pick<Checkpoint, 'tensors'>,
): Steps<TensorPair[]> {
  const before = new Map(base.tensors.map((tensor) => [tensor.name, tensor]));
  const pairs: TensorPair[] = [];
  const differ: string[] = [];
  for (const [index, tensor] of next.tensors.entries()) {
    const old = before.get(tensor.name);
    before.delete(tensor.name);
    if (old === undefined) differ.push(`${tensor.name} is new`);
    else if (formOf(old) !== formOf(tensor))
      differ.push(`${tensor.name} is ${formOf(tensor)} and was ${formOf(old)}`);
    else pairs.push({ base: old, next: tensor });
    if (index % TENSORS_PER_STEP === 0) yield;
  }
  for (const name of before.keys()) differ.push(`${name} is gone`);
  if (differ.length === 0) return pairs;
  const more = differ.length > SHOWN ? ` and ${differ.length - SHOWN} more` : '';
  throw new WeightcastError(
    'WC_DELTA_BASE',
    `no delta leads from the base to these weights: ${differ.slice(0, SHOWN).join(', ')}${more}`,
    {
      remedy: 'Send them whole: leave out --delta-from, or use --transport filesystem.',
      details: { differ },
    },
  );
}

function formOf({ dtype, shape }: Tensor): string {
  return `${dtype.name}[${shape.join(',')}]`;
}
