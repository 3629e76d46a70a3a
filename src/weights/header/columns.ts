/**
 * What a header says, as columns: one typed array a field. They cross from a thread to another without being copied, and cost the heap nothing
 * however many tensors there are.
 */
import type { NativeHeader } from '../../native.js';
import { NameTable } from './names.js';

/** Bytes of the shortest tensor that a header can declare, its comma included. */
const MIN_ENTRY_BYTES = '"":{"dtype":"U8","shape":[],"data_offsets":[0,0]}'.length;
const FIRST_DIMENSIONS = 1 << 10;

export interface HeaderColumns extends NativeHeader {
  /** Rows in the order of their bytes. */
  readonly order: Uint32Array<ArrayBuffer>;
  /** Byte of the header at which the value of `__metadata__` begins; -1 without one. */
  readonly metadataAt: number;
}

/** A tensor as it was read; the next one is read into the same. */
export interface Row {
  dtype: number;
  readonly dimensions: Float64Array;
  /** How many of them count. */
  rank: number;
  begin: number;
  end: number;
}

/** Rows of a header, as they are declared. */
export class Rows {
  readonly names: NameTable;
  readonly dtypes: Uint8Array<ArrayBuffer>;
  readonly begins: Float64Array<ArrayBuffer>;
  readonly ends: Float64Array<ArrayBuffer>;
  readonly #dimensionEnds: Uint32Array<ArrayBuffer>;
  #dimensions = new Float64Array(FIRST_DIMENSIONS);
  #count = 0;
  #dimensionCount = 0;
  metadataAt = -1;

  /** Takes memory for as many as a header of so many bytes can declare; what is not used is never touched. */
  constructor(headerBytes: number) {
    const most = Math.floor(headerBytes / MIN_ENTRY_BYTES) + 1;
    this.names = new NameTable(most, headerBytes);
    this.dtypes = new Uint8Array(most);
    this.begins = new Float64Array(most);
    this.ends = new Float64Array(most);
    this.#dimensionEnds = new Uint32Array(most);
  }

  get count(): number {
    return this.#count;
  }

  /** The row of the name that was added last. */
  push({ dtype, dimensions, rank, begin, end }: Row): void {
    const index = this.#count++;
    const total = this.#dimensionCount + rank;
    if (total > this.#dimensions.length) this.#widen(2 * total);
    for (let i = 0; i < rank; i += 1) this.#dimensions[this.#dimensionCount++] = dimensions[i] as number;
    this.#dimensionEnds[index] = total;
    this.dtypes[index] = dtype;
    this.begins[index] = begin;
    this.ends[index] = end;
  }

  columns(order: Uint32Array<ArrayBuffer>): HeaderColumns {
    return {
      count: this.#count,
      names: this.names.bytes,
      nameEnds: this.names.ends,
      dtypes: this.dtypes,
      dimensions: this.#dimensions,
      dimensionEnds: this.#dimensionEnds,
      begins: this.begins,
      ends: this.ends,
      order,
      metadataAt: this.metadataAt,
    };
  }

  #widen(length: number): void {
    const wider = new Float64Array(length);
    wider.set(this.#dimensions);
    this.#dimensions = wider;
  }
}
