/**
 * A quick way through the form in which the reference library, and so nearly every file, writes tensors:
 * ,"name":{"dtype":"BF16","shape":[4,2],"data_offsets":[0,16]} without white space. It judges nothing: whatever looks different, also by being
 * wrong, is left to the reader of the general form.
 */
import { DTYPE_LIST } from '../dtype.js';
import type { Row, Rows } from './columns.js';
import { bitsOf } from './entry.js';

const TO_SHAPE = DTYPE_LIST.map(({ name }) => Buffer.from(`":{"dtype":"${name}","shape":[`));
const TO_OFFSETS = Buffer.from('],"data_offsets":[');
const TO_END = Buffer.from(']}');
const QUOTE = 0x22;
const COMMA = 0x2c;
const BACKSLASH = 0x5c;
const CLOSE_BRACKET = 0x5d;
const UNDERSCORE = 0x5f;
const MAX_NAME_BYTES = 1 << 12;
/** Of a number that is surely a safe integer. */
const MAX_DIGITS = 15;

export class CompactReader {
  readonly #bytes: Uint8Array;
  readonly #row: Row;
  /** Where what was read last ends. */
  #at = 0;

  constructor(bytes: Uint8Array, row: Row) {
    this.#bytes = bytes;
    this.#row = row;
  }

  /** Reads up to `most` tensors of the dtype of the row that was read last, from the comma before them; the byte after them. */
  read(from: number, rows: Rows, most: number): number {
    const row = this.#row;
    let at = from;
    for (let count = 0; count < most && this.#entry(at); count += 1) {
      if (bitsOf(row) !== 8 * (row.end - row.begin)) break;
      if (!rows.names.add(this.#bytes, at + 2, this.#nameEnd)) break;
      rows.push(row);
      at = this.#at;
    }
    return at;
  }

  #nameEnd = 0;

  #entry(start: number): boolean {
    const bytes = this.#bytes;
    const row = this.#row;
    let at = start + 2;
    // A name that begins as __metadata__ does is looked at more closely.
    if (bytes[start] !== COMMA || bytes[start + 1] !== QUOTE || bytes[at] === UNDERSCORE) return false;
    const limit = at + MAX_NAME_BYTES;
    for (; at < limit; at += 1) {
      const byte = bytes[at] as number;
      if (byte === QUOTE) break;
      if (!(byte >= 0x20) || byte === BACKSLASH) return false;
    }
    this.#nameEnd = at;
    if (!this.#literal(at, TO_SHAPE[row.dtype] as Uint8Array)) return false;
    let rank = 0;
    if (bytes[this.#at] !== CLOSE_BRACKET) {
      for (;;) {
        const value = this.#integer(this.#at);
        if (value < 0 || rank === row.dimensions.length) return false;
        row.dimensions[rank++] = value;
        if (bytes[this.#at] !== COMMA) break;
        this.#at += 1;
      }
    }
    row.rank = rank;
    if (!this.#literal(this.#at, TO_OFFSETS)) return false;
    row.begin = this.#integer(this.#at);
    if (row.begin < 0 || bytes[this.#at] !== COMMA) return false;
    row.end = this.#integer(this.#at + 1);
    return row.end >= 0 && this.#literal(this.#at, TO_END);
  }

  #literal(at: number, expected: Uint8Array): boolean {
    const bytes = this.#bytes;
    const { length } = expected;
    for (let i = 0; i < length; i += 1) if (bytes[at + i] !== expected[i]) return false;
    this.#at = at + length;
    return true;
  }

  /** -1 where none begins, or one that has to be looked at more closely. */
  #integer(start: number): number {
    const bytes = this.#bytes;
    let value = 0;
    let at = start;
    for (; at < bytes.length; at += 1) {
      const digit = (bytes[at] as number) - 0x30;
      if (digit < 0 || digit > 9) break;
      value = value * 10 + digit;
    }
    this.#at = at;
    const length = at - start;
    if (length === 0 || length > MAX_DIGITS || (length > 1 && bytes[start] === 0x30)) return -1;
    return value;
  }
}
