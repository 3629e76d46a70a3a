/** One tensor of a header: an object with dtype, shape and data_offsets. */
import { DTYPE_LIST, type DType } from '../dtype.js';
import type { JsonReader } from '../json.js';
import type { Row } from './columns.js';

const MAX_NAME_BYTES = 1 << 16;
/** Of its name where every character is an escape, and more. */
const MAX_DTYPE_BYTES = 128;
const MAX_DIMENSIONS = 64;
/** Fields of one tensor that nobody knows: each has to be remembered, so that none comes twice. */
const MAX_UNKNOWN = 1000;

const word = (text: string): Uint8Array => new TextEncoder().encode(text);
const DTYPE = word('dtype');
const SHAPE = word('shape');
const DATA_OFFSETS = word('data_offsets');
const DTYPE_WORDS = DTYPE_LIST.map(({ name }) => word(name));

/** data_offsets that do not fit dtype and shape. */
export class SizeError extends Error {
  readonly facts: Readonly<Record<string, unknown>>;
  constructor(message: string, facts: Readonly<Record<string, unknown>>) {
    super(message);
    this.facts = facts;
  }
}

/** A row to read into. */
export function emptyRow(): Row {
  return { dtype: -1, dimensions: new Float64Array(MAX_DIMENSIONS), rank: -1, begin: 0, end: 0 };
}

/** Bits that a row's dtype and shape take; above 2^53 only that they are. */
function bitsOf({ dtype, dimensions, rank }: Row): number {
  let elements = 1;
  for (let i = 0; i < rank; i += 1) {
    elements *= dimensions[i] as number;
    if (elements > Number.MAX_SAFE_INTEGER) {
      elements = elementsOf(dimensions.subarray(0, rank));
      break;
    }
  }
  return elements * (DTYPE_LIST[dtype] as DType).bits;
}

/** As the reference library counts: 64 bits hold every product on the way, also of a shape that has a 0 further on. */
function elementsOf(dimensions: Float64Array): number {
  let elements = 1n;
  for (const dimension of dimensions) {
    elements *= BigInt(dimension);
    if (elements >= 1n << 64n) return Number.POSITIVE_INFINITY;
  }
  return Number(elements);
}

/** Reads tensors in any form that JSON allows. */
export class EntryReader {
  readonly #reader: JsonReader;
  readonly #row: Row;
  readonly #offsets = new Float64Array(2);
  #hasOffsets = false;
  #unknown: Set<string> | null = null;
  #first = true;

  constructor(reader: JsonReader, row: Row) {
    this.#reader = reader;
    this.#row = row;
  }

  open(): void {
    this.#reader.openObject();
    this.#row.dtype = -1;
    this.#row.rank = -1;
    this.#hasOffsets = false;
    this.#unknown = null;
    this.#first = true;
  }

  /**
   * True at the end of the tensor; false where a value has to be skipped first, which may be long.
   *
   * @throws JsonError, SizeError
   */
  read(): boolean {
    const reader = this.#reader;
    const row = this.#row;
    for (;;) {
      const at = reader.at;
      if (!reader.key(this.#first, MAX_NAME_BYTES)) break;
      this.#first = false;
      if (reader.is(DTYPE)) {
        if (row.dtype >= 0) reader.fail('a second "dtype"', at);
        row.dtype = this.#dtype();
      } else if (reader.is(SHAPE)) {
        if (row.rank >= 0) reader.fail('a second "shape"', at);
        row.rank = reader.integers(row.dimensions);
      } else if (reader.is(DATA_OFFSETS)) {
        if (this.#hasOffsets) reader.fail('a second "data_offsets"', at);
        if (reader.integers(this.#offsets) < 2) reader.fail('data_offsets needs two numbers');
        [row.begin, row.end] = this.#offsets as unknown as [number, number];
        this.#hasOffsets = true;
      } else {
        // The reference library lets fields pass that it does not know.
        const field = reader.text();
        this.#unknown ??= new Set();
        if (this.#unknown.has(field)) reader.fail(`a second ${JSON.stringify(field)}`, at);
        if (this.#unknown.size === MAX_UNKNOWN) reader.fail(`more than ${MAX_UNKNOWN} unknown fields`, at);
        this.#unknown.add(field);
        return false;
      }
    }
    this.#check();
    return true;
  }

  #dtype(): number {
    const reader = this.#reader;
    reader.token(MAX_DTYPE_BYTES);
    const index = DTYPE_WORDS.findIndex((name) => reader.is(name));
    return index >= 0 ? index : reader.fail(`unknown dtype ${JSON.stringify(reader.text())}`);
  }

  #check(): void {
    const row = this.#row;
    const reader = this.#reader;
    if (row.dtype < 0 || row.rank < 0 || !this.#hasOffsets) {
      reader.fail(`no ${row.dtype < 0 ? 'dtype' : row.rank < 0 ? 'shape' : 'data_offsets'}`);
    }
    const type = () => `${DTYPE_LIST[row.dtype]?.name} [${row.dimensions.subarray(0, row.rank).join(', ')}]`;
    const bits = bitsOf(row);
    if (bits > Number.MAX_SAFE_INTEGER) reader.fail('a shape too large for any file');
    if (bits % 8 !== 0) reader.fail(`${type()} does not fill whole bytes`);
    const byteLength = bits / 8;
    const { begin, end } = row;
    if (end - begin === byteLength) return;
    throw new SizeError(
      `data_offsets [${begin}, ${end}] do not hold ${type()}, which is ${byteLength} bytes`,
      { begin, end, byteLength },
    );
  }
}
