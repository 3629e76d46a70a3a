/** Which tensor of a version changes which of the version before. Publisher and reader must agree on it: it is a part of the format. */
import { DTYPES } from '../../../weights/dtype.js';
import type { ManifestTensor } from '../manifest.js';

export type TensorFacts = Pick<ManifestTensor, 'name' | 'dtype' | 'byteLength'>;

/**
 * The tensor of the version before that `next` is told by: of the same name, dtype and size, whatever its shape. Null for one that is new, or has become
 * another.
 */
export function baseOf<T extends TensorFacts>(next: TensorFacts, base: ReadonlyMap<string, T>): T | null {
  const same = base.get(next.name);
  return same !== undefined && same.dtype === next.dtype && same.byteLength === next.byteLength ? same : null;
}

/** What is compared as a whole: an element, or a byte of those that are smaller than one. */
export function elementBytesOf(dtype: string): number {
  const bytes = (DTYPES.get(dtype)?.bits ?? 8) / 8;
  return bytes === 2 || bytes === 4 || bytes === 8 ? bytes : 1;
}

export const byName = <T extends { readonly name: string }>(tensors: readonly T[]): ReadonlyMap<string, T> =>
  new Map(tensors.map((tensor) => [tensor.name, tensor]));
