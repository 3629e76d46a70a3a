import type { Memory } from './limits.js';

const KEEP = 64 * 1024;
const EMPTY = Buffer.alloc(0);

/**
 * Received bytes in one contiguous buffer that grows by doubling, so that any fragmentation costs O(n), and only bytes that
 * really arrived cost memory.
 */
export class ByteQueue {
  #buffer = EMPTY;
  #start = 0;
  #end = 0;
  readonly #memory: Memory | null;

  constructor(memory: Memory | null = null) {
    this.#memory = memory;
  }

  get length(): number {
    return this.#end - this.#start;
  }

  /** Unread bytes; valid until the next `append` or `clear`. */
  get unread(): Buffer {
    return this.#buffer.subarray(this.#start, this.#end);
  }

  append(chunk: Uint8Array): void {
    if (this.#end + chunk.length > this.#buffer.length) this.#makeRoom(chunk.length);
    this.#buffer.set(chunk, this.#end);
    this.#end += chunk.length;
  }

  consume(count: number): void {
    this.#start += count;
    if (this.#start !== this.#end) return;
    this.#start = 0;
    this.#end = 0;
    if (this.#buffer.length > KEEP) this.#replace(0);
  }

  clear(): void {
    this.#start = 0;
    this.#end = 0;
    this.#replace(0);
  }

  #makeRoom(extra: number): void {
    const length = this.length;
    const needed = length + extra;
    // Moving to the front pays only when half of the buffer becomes free by it; else small appends would move it each time.
    if (needed * 2 > this.#buffer.length) {
      this.#replace(Math.max(needed, 2 * this.#buffer.length, 256));
    } else {
      this.#buffer.copyWithin(0, this.#start, this.#end);
    }
    this.#start = 0;
    this.#end = length;
  }

  #replace(capacity: number): void {
    this.#memory?.reserve(capacity - this.#buffer.length);
    const next = Buffer.allocUnsafeSlow(capacity);
    this.#buffer.copy(next, 0, this.#start, this.#end);
    this.#buffer = next;
  }
}
