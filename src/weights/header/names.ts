/** The names of a header's tensors, each once: bytes in one buffer and no strings, so that 100,000 of them are no objects. */

/** Probes a name may cost, on average, before the table takes the file for one that makes hashes collide. */
const PROBES_PER_NAME = 8;
const FREE_PROBES = 4096;

export class NameTable {
  /** UTF-8, back to back. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Where each name ends. */
  readonly ends: Uint32Array<ArrayBuffer>;
  readonly #hashes: Uint32Array;
  /** Index + 1 of the name in each slot. */
  readonly #slots: Uint32Array;
  #count = 0;
  #probes = 0;
  /** Instead of the slots, where a file makes hashes collide: V8 seeds the hashes of its strings. */
  #set: Set<string> | null = null;

  /** @param maxNames and @param maxBytes are never exceeded; untouched memory costs nothing */
  constructor(maxNames: number, maxBytes: number) {
    this.bytes = new Uint8Array(maxBytes);
    this.ends = new Uint32Array(maxNames);
    this.#hashes = new Uint32Array(maxNames);
    this.#slots = new Uint32Array(2 ** Math.ceil(Math.log2(1.3 * maxNames + 1)));
  }

  get count(): number {
    return this.#count;
  }

  /** Adds the UTF-8 bytes from start to end; false when that name is there already. */
  add(source: Uint8Array, start: number, end: number): boolean {
    const { bytes } = this;
    const from = this.#start(this.#count);
    let to = from;
    // FNV-1a, mixed at the end because the slots take its low bits.
    let hash = 0x811c9dc5;
    for (let i = start; i < end; i += 1) {
      const byte = source[i] as number;
      bytes[to++] = byte;
      hash = Math.imul(hash ^ byte, 0x01000193);
    }
    hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b);
    hash = (hash ^ (hash >>> 13)) >>> 0;
    this.ends[this.#count] = to;
    this.#hashes[this.#count] = hash;
    const isNew = this.#set === null ? this.#place(from, to, hash) : addTo(this.#set, this.#text(from, to));
    if (isNew) this.#count += 1;
    return isNew;
  }

  /** The index-th name, or the one that was refused last. */
  at(index: number): string {
    return this.#text(this.#start(index), this.ends[index] as number);
  }

  #place(from: number, to: number, hash: number): boolean {
    const slots = this.#slots;
    const mask = slots.length - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const index = (slots[slot] as number) - 1;
      if (index < 0) {
        slots[slot] = this.#count + 1;
        return true;
      }
      if (this.#hashes[index] === hash && this.#same(index, from, to)) return false;
      this.#probes += 1;
      if (this.#probes > FREE_PROBES + PROBES_PER_NAME * this.#count) return this.#distrustHashes(from, to);
    }
  }

  #same(index: number, from: number, to: number): boolean {
    const { bytes } = this;
    const start = this.#start(index);
    if ((this.ends[index] as number) - start !== to - from) return false;
    for (let i = 0; i < to - from; i += 1) if (bytes[start + i] !== bytes[from + i]) return false;
    return true;
  }

  #distrustHashes(from: number, to: number): boolean {
    this.#set = new Set();
    for (let index = 0; index < this.#count; index += 1) this.#set.add(this.at(index));
    return addTo(this.#set, this.#text(from, to));
  }

  #start(index: number): number {
    return index === 0 ? 0 : (this.ends[index - 1] as number);
  }

  #text(from: number, to: number): string {
    return Buffer.from(this.bytes.buffer, from, to - from).toString('utf8');
  }
}

function addTo(set: Set<string>, name: string): boolean {
  const { size } = set;
  return set.add(name).size > size;
}
