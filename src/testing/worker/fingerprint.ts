/**
 * A sum over every byte of the weights that does not depend on how they are sliced over workers: each worker adds what it holds, at
 * the place where the checkpoint has it. Any single changed word changes the sum.
 */
import { createHash } from 'node:crypto';
import type { Slice } from './layout.js';

export class Fingerprint {
  #first = 0;
  #second = 0;

  /** Two 32-bit sums. */
  get lanes(): readonly [number, number] {
    return [this.#first >>> 0, this.#second >>> 0];
  }

  /** Adds packed rows of a slice: `bytes` are its rows from `row` on. */
  add(tensor: string, slice: Slice, row: number, bytes: Uint8Array): void {
    const seed = createHash('sha256').update(tensor).digest().readInt32LE(0);
    // The grain must be the same at every tensor-parallel size: words only where every slice is made of them.
    const grain = slice.rowBytes % 64 === 0 && slice.columnBytes % 4 === 0 ? 4 : 1;
    const units = grain === 4 ? words(bytes) : bytes;
    const perRow = slice.columnBytes / grain;
    const rowStride = slice.rowBytes / grain;
    const rows = units.length / perRow;
    let first = this.#first;
    let second = this.#second;
    for (let index = 0; index < rows; index += 1) {
      const from = index * perRow;
      let place = ((row + index) * rowStride + slice.columnOffset / grain + seed) | 0;
      for (let at = from; at < from + perRow; at += 1) {
        const mixed = Math.imul((units[at] as number) ^ Math.imul(place, 0x9e3779b1), 0x85ebca6b);
        first = (first + (mixed ^ (mixed >>> 15))) | 0;
        second = (second + Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)) | 0;
        place = (place + 1) | 0;
      }
    }
    this.#first = first;
    this.#second = second;
  }
}

function words(bytes: Uint8Array): Uint32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  return new Uint32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 4);
}

/** Sums the lanes of all workers. */
export function combine(lanes: readonly (readonly [number, number])[]): string {
  const sums = [0, 1].map((lane) =>
    (lanes.reduce((sum, pair) => (sum + (pair[lane] as number)) | 0, 0) >>> 0).toString(16).padStart(8, '0'),
  );
  return sums.join('');
}
