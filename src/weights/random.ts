/** Cheap seeded bytes that are finite numbers: test weights by the gigabyte. Not for anything secret. */
import { endianness } from 'node:os';

/** Bits to keep of every 32, by dtype: with the top exponent bit clear no value is infinite or NaN. Others keep all. */
const FINITE: Readonly<Record<string, number>> = {
  F16: 0xbfffbfff,
  BF16: 0xbfffbfff,
  F32: 0xbfffffff,
  F64: 0xbfffffff,
  C64: 0xbfffffff,
  F8_E4M3: 0xbfbfbfbf,
  F8_E5M2: 0xbfbfbfbf,
  BOOL: 0x01010101,
};

/** A stream of bytes that depends on the seed and the label alone, however it is cut into blocks of whole 4-byte words. */
export class RandomBytes {
  #a: number;
  #b: number;
  #c: number;
  #d: number;
  readonly #mask: number;

  constructor(seed: number, label: string, dtypeName: string) {
    if (endianness() !== 'LE') throw new Error('random weights are made on little-endian machines only');
    let hash = (0x811c9dc5 ^ seed) >>> 0;
    const next = (value: number) => {
      hash = Math.imul(hash ^ value, 0x01000193);
      return Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d) >>> 0;
    };
    for (let i = 0; i < label.length; i += 1) next(label.charCodeAt(i));
    this.#a = next(1);
    this.#b = next(2);
    this.#c = next(3);
    this.#d = next(4) | 1;
    this.#mask = FINITE[dtypeName] ?? 0xffffffff;
  }

  /** Fills words with xorshift128 (Marsaglia 2003). */
  fill(words: Uint32Array): void {
    let a = this.#a;
    let b = this.#b;
    let c = this.#c;
    let d = this.#d;
    const mask = this.#mask;
    for (let i = 0; i < words.length; i += 1) {
      const t = a ^ (a << 11);
      a = b;
      b = c;
      c = d;
      d = d ^ (d >>> 19) ^ t ^ (t >>> 8);
      words[i] = d & mask;
    }
    this.#a = a;
    this.#b = b;
    this.#c = c;
    this.#d = d;
  }
}
