/**
 * vLLM's sparse format (contracts/vllm.md 1.10): of each tensor that changed a broadcast of int32 flat indices, then one of the new values, both in the
 * checkpoint's coordinates. Measured on 0.32.0: tensors that are not listed stay as they are, the list may not be empty, a tensor may have no updates, and
 * NaN can't be sent, since the receiver takes it for "unchanged".
 */
import { WeightcastError } from '../../../errors.js';
import { elementsOf, type Tensor } from '../../../weights/tensor.js';
import type { Steps } from '../../../weights/yielding.js';
import { type Frame, sizesOf, type WirePlan } from './frame.js';
import { type Refusal, refuse } from './refusal.js';

export const INDEX_BYTES = 4;

/** The largest number of elements that int32 flat indices reach. */
export const MAX_ELEMENTS = 2 ** 31 - 1;

/** Where the changes of one tensor lie. */
export interface TensorChanges {
  readonly tensor: Tensor;
  readonly updates: number;
  /** Ascending int32 flat indices. */
  readonly indices: FilePlace;
  /** The new values, in that order. */
  readonly values: FilePlace;
}

/** From where on, in bytes. */
interface FilePlace {
  readonly path: string;
  readonly offset: number;
}

/**
 * torch dtypes whose sparse patches the receiver applies: floating ones, because NaN is its sentinel, and of those the ones that torch's index_copy has
 * (float8 has none: 0.32.0 on a CPU raises, after it has received).
 */
const PATCHABLE: ReadonlySet<string> = new Set(['float16', 'bfloat16', 'float32', 'float64']);

/** Why no delta of this tensor can be made at all. */
export const indexRefusal: Refusal = ({ shape }) =>
  elementsOf(shape) > MAX_ELEMENTS ? `${elementsOf(shape)} elements, more than int32 indices reach` : null;

/** Why changes of this tensor can't be sent. */
export const patchRefusal: Refusal = ({ dtype }) =>
  dtype.torchName !== null && PATCHABLE.has(dtype.torchName) ? null : `dtype ${dtype.name}`;

const INSTEAD = 'Use --transport filesystem for this version.';
const TENSORS_PER_STEP = 2048;

/** @throws WeightcastError WC_TENSOR_UNSENDABLE */
export function requireIndexable(tensors: readonly Tensor[]): void {
  refuse(tensors, { format: 'sparse', refusal: indexRefusal, remedy: INSTEAD });
}

/** Bytes that these changes take on the wire. */
export function sparseBytes(changes: readonly TensorChanges[]): number {
  return changes.reduce((sum, { tensor, updates }) => sum + updates * (INDEX_BYTES + itemBytes(tensor)), 0);
}

/**
 * Plans a delta: the tensors that changed, in the given order. When nothing did, one tensor with no updates, since the receiver refuses an empty list: the
 * smallest of `all`.
 *
 * @throws WeightcastError WC_TENSOR_UNSENDABLE
 */
export function* sparseSteps(
  changes: readonly TensorChanges[],
  all: readonly Tensor[],
): Steps<WirePlan & { readonly updates: readonly number[] }> {
  const changed = changes.filter(({ updates }) => updates > 0);
  refuse(
    changed.map(({ tensor }) => tensor),
    { format: 'sparse', refusal: patchRefusal, remedy: INSTEAD },
  );
  yield;
  const listed = changed.length > 0 ? changed : [nothing(all)];
  const frames: Frame[] = [];
  for (const [index, change] of listed.entries()) {
    frames.push(...framesOf(change));
    if (index % TENSORS_PER_STEP === 0) yield;
  }
  return {
    tensors: listed.map(({ tensor: { name, dtype, shape } }) => ({
      name,
      dtypeName: dtype.torchName as string,
      shape,
    })),
    updates: listed.map(({ updates }) => updates),
    frames,
    ...sizesOf(frames),
  };
}

function framesOf({ tensor, updates, indices, values }: TensorChanges): Frame[] {
  const frame = (place: FilePlace, byteLength: number): Frame => ({
    ranges: [{ kind: 'file', ...place, byteLength }],
    byteLength,
  });
  return [frame(indices, updates * INDEX_BYTES), frame(values, updates * itemBytes(tensor))];
}

function nothing(all: readonly Tensor[]): TensorChanges {
  let smallest: Tensor | null = null;
  for (const tensor of all) {
    if (patchRefusal(tensor) !== null) continue;
    if (smallest === null || tensor.range.byteLength < smallest.range.byteLength) smallest = tensor;
  }
  if (smallest === null) {
    throw new WeightcastError(
      'WC_TENSOR_UNSENDABLE',
      'the sparse wire format carries floating-point tensors, and this checkpoint has none',
      { remedy: INSTEAD },
    );
  }
  const nowhere = { path: '', offset: 0 };
  return { tensor: smallest, updates: 0, indices: nowhere, values: nowhere };
}

function itemBytes({ dtype }: Tensor): number {
  return dtype.bits / 8;
}
