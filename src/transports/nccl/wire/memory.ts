/** How much memory a transfer takes, known before anything starts. */
import type { WirePlan } from './frame.js';

const MIB = 2 ** 20;
/** Buffers are whole multiples of this, so that every piece starts where copies are fast. */
const GRAIN = 4096;

export interface StagingOptions {
  /** Bytes of a device buffer; grows to the largest frame, which must leave in one broadcast. Default 64 MiB. */
  readonly slotBytes?: number | undefined;
  /** Bytes of a pinned host buffer. Default 16 MiB. */
  readonly pieceBytes?: number | undefined;
  /** Device buffers, at least 2 so that copies and broadcasts overlap. Default 2. */
  readonly slots?: number | undefined;
  /** Pinned host buffers. Default 4. */
  readonly pieces?: number | undefined;
}

export interface Staging {
  readonly slots: number;
  readonly slotBytes: number;
  readonly pieces: number;
  readonly pieceBytes: number;
  /** What the transfer holds at once on each side, in bytes, however large the model is. */
  readonly peakBytes: { readonly device: number; readonly pinned: number };
}

/**
 * The staging buffers for a plan.
 *
 * @example
 * ```ts
 * const { peakBytes } = stagingFor(planWire(tensors, packing));
 * ```
 */
export function stagingFor(plan: Pick<WirePlan, 'largestFrame'>, options: StagingOptions = {}): Staging {
  const slots = Math.max(2, options.slots ?? 2);
  const pieces = Math.max(1, options.pieces ?? 4);
  const slotBytes = wholeGrains(Math.max(options.slotBytes ?? 64 * MIB, plan.largestFrame));
  const pieceBytes = wholeGrains(options.pieceBytes ?? 16 * MIB);
  return {
    slots,
    slotBytes,
    pieces,
    pieceBytes,
    peakBytes: { device: slots * slotBytes, pinned: pieces * pieceBytes },
  };
}

function wholeGrains(bytes: number): number {
  return Math.max(1, Math.ceil(bytes / GRAIN)) * GRAIN;
}
