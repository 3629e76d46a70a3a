/** The receiver of a delta takes NaN for "unchanged": new values that are NaN must be found before anybody is paused. */
import { open } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import type { TensorChanges } from '../../transports/nccl/wire/sparse.js';

const PIECE_BYTES = 1 << 18;

/** Finds a NaN in so many bytes of little-endian values of one dtype. */
type Finder = (bytes: Uint8Array<ArrayBuffer>) => boolean;

const FINDERS: Readonly<Record<string, Finder>> = {
  // Beyond infinity, whatever the sign.
  bfloat16: ({ buffer, byteLength }) =>
    new Uint16Array(buffer, 0, byteLength / 2).some((bits) => (bits & 0x7fff) > 0x7f80),
  float16: ({ buffer, byteLength }) =>
    new Uint16Array(buffer, 0, byteLength / 2).some((bits) => (bits & 0x7fff) > 0x7c00),
  float32: ({ buffer, byteLength }) => new Float32Array(buffer, 0, byteLength / 4).some(Number.isNaN),
  float64: ({ buffer, byteLength }) => new Float64Array(buffer, 0, byteLength / 8).some(Number.isNaN),
};

/** Tensors that have a NaN among their new values; those of other dtypes are passed over. @throws the signal's reason */
export async function tensorsWithNaN(
  changes: readonly TensorChanges[],
  signal: AbortSignal,
): Promise<TensorChanges[]> {
  const found: TensorChanges[] = [];
  for (const change of changes) {
    const finder = FINDERS[change.tensor.dtype.torchName ?? ''];
    if (finder !== undefined && change.updates > 0 && (await hasNaN(change, finder, signal)))
      found.push(change);
  }
  return found;
}

async function hasNaN(
  { tensor, updates, values }: TensorChanges,
  finder: Finder,
  signal: AbortSignal,
): Promise<boolean> {
  const file = await open(values.path, 'r');
  try {
    const end = values.offset + (updates * tensor.dtype.bits) / 8;
    const piece = new Uint8Array(PIECE_BYTES);
    for (let at = values.offset; at < end; ) {
      signal.throwIfAborted();
      const wanted = Math.min(PIECE_BYTES, end - at);
      const bytes = piece.subarray(0, wanted);
      for (let filled = 0; filled < wanted; ) {
        const { bytesRead } = await file.read(bytes, filled, wanted - filled, at + filled);
        if (bytesRead === 0) throw new Error(`${values.path} ends before its values`);
        filled += bytesRead;
      }
      if (finder(bytes)) return true;
      at += wanted;
      await setImmediate();
    }
    return false;
  } finally {
    await file.close();
  }
}
