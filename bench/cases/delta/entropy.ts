/** How small a delta can get: no code that knows nothing of the positions and the values takes fewer bits. */
import type { Kind } from './versions.js';

const BITS = 16;

/** Bits that say whether something of this probability happened. */
const bitsOf = (p: number): number => -p * Math.log2(p) - (1 - p) * Math.log2(1 - p);

/** Percent of the model's bytes. */
export function entropyPercent(kind: Kind, fraction: number): number {
  const positions = bitsOf(fraction);
  // Up or down, and the number of units: each further one comes with probability 1/4.
  const value = kind === 'ulp' ? 1 + bitsOf(1 / 4) / (3 / 4) : Math.log2(2 ** BITS - 1);
  return (100 * (positions + fraction * value)) / BITS;
}
