/**
 * What vLLM does with the patches of a delta, in checkpoint coordinates: its checks come before any is applied, in its words (0.32.0,
 * `load_checkpoint_weight_patches`). A second reading of the protocol, on purpose not shared with the sender.
 */
import type { ReceiveFault } from '../faults.js';
import { WorkerError } from '../server/transfer-info.js';
import type { Elements, Parameters } from './parameters.js';

export interface Patch extends Elements {
  readonly name: string;
  readonly dtypeName: string;
  readonly shape: readonly number[];
}

/** Bits of the exponent, all ones in a NaN, and of the fraction, of which one is set in it. */
interface FloatFormat {
  readonly bytes: number;
  readonly exponent: bigint;
  readonly fraction: bigint;
}

const FLOATS: Readonly<Record<string, FloatFormat>> = {
  float16: { bytes: 2, exponent: 0x7c00n, fraction: 0x03ffn },
  bfloat16: { bytes: 2, exponent: 0x7f80n, fraction: 0x007fn },
  float32: { bytes: 4, exponent: 0x7f80_0000n, fraction: 0x007f_ffffn },
  float64: { bytes: 8, exponent: 0x7ff0_0000_0000_0000n, fraction: 0x000f_ffff_ffff_ffffn },
};

/** Checks all, then applies one after the other. @throws WorkerError */
export async function applyPatches(
  patches: readonly Patch[],
  parameters: Parameters,
  fault: ReceiveFault | null,
): Promise<void> {
  for (const { name, dtypeName } of patches) {
    if (!/^b?float/.test(dtypeName)) {
      throw new WorkerError(
        `${name}: sparse checkpoint patches require a floating dtype because NaN is the unchanged-value sentinel`,
      );
    }
  }
  if (patches.some(isInvalid)) {
    throw new WorkerError(
      'Sparse checkpoint patches contain NaN values, out-of-range indices, or duplicate indices',
    );
  }
  for (const [patched, patch] of patches.entries()) {
    fault?.beforePatch(patched);
    if (patch.indices.length > 0 && FLOATS[patch.dtypeName] === undefined) {
      const [first = '', ...rest] = patch.dtypeName;
      throw new WorkerError(`"index_copy_cpu" not implemented for '${first.toUpperCase()}${rest.join('')}'`);
    }
    parameters.requireLoadable(patch.name, patch.dtypeName, patch.shape);
    await parameters.patch(patch.name, patch);
  }
}

function isInvalid({ dtypeName, shape, indices, values }: Patch): boolean {
  const elements = shape.reduce((product, extent) => product * extent, 1);
  const format = FLOATS[dtypeName];
  return (
    indices.some((index) => index < 0 || index >= elements) ||
    new Set(indices).size < indices.length ||
    (format !== undefined && hasNaN(values, format))
  );
}

function hasNaN(values: Uint8Array, { bytes, exponent, fraction }: FloatFormat): boolean {
  const view = new DataView(values.buffer, values.byteOffset, values.byteLength);
  for (let at = 0; at < values.byteLength; at += bytes) {
    if (bytes === 2 || bytes === 4) {
      const bits = bytes === 2 ? view.getUint16(at, true) : view.getUint32(at, true);
      if ((bits & Number(exponent)) >>> 0 === Number(exponent) && (bits & Number(fraction)) !== 0)
        return true;
      continue;
    }
    const bits = view.getBigUint64(at, true);
    if ((bits & exponent) === exponent && (bits & fraction) !== 0n) return true;
  }
  return false;
}
