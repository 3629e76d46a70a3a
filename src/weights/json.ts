/**
 * A pull parser for large JSON documents that come from elsewhere. JSON.parse hides duplicate keys, blocks the event loop and
 * builds whatever it is given; here the caller says what it expects, byte offsets go into errors, and long work can be cut.
 */

import type { Steps } from './yielding.js';

/** Deepest nesting of a skipped value, as serde_json (and so the reference safetensors reader) has it. */
const MAX_DEPTH = 125;
/** Bytes scanned between two yields. */
const STRIDE = 1 << 18;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;

const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const LITERALS = ['true', 'false', 'null'] as const;

/** What is wrong, and at which byte of the document. */
export class JsonError extends Error {
  readonly at: number;
  constructor(message: string, at: number) {
    super(message);
    this.name = 'JsonError';
    this.at = at;
  }
}

/** Reads one document of valid UTF-8 (the caller checks that). */
export class JsonReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get at(): number {
    return this.#at;
  }

  fail(message: string, at = this.#at): never {
    throw new JsonError(message, at);
  }

  /** The next byte that is not white space, not consumed; -1 at the end. */
  peek(): number {
    const bytes = this.#bytes;
    for (;;) {
      const byte = bytes[this.#at];
      if (byte === undefined) return -1;
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return byte;
      this.#at += 1;
    }
  }

  #take(byte: number): void {
    if (this.peek() !== byte) {
      const found = this.#at >= this.#bytes.length ? 'the end' : `'${this.#excerpt(this.#at, this.#at + 1)}'`;
      this.fail(`'${String.fromCharCode(byte)}' expected, not ${found}`);
    }
    this.#at += 1;
  }

  /** Nothing but white space may follow. */
  end(): void {
    if (this.peek() !== -1) this.fail('characters after the end of the document');
  }

  /**
   * Steps to the next member or element: true when there is one, with its first byte next. `first` is true at the first call.
   */
  #next(close: number, first: boolean): boolean {
    const byte = this.peek();
    if (byte === close) {
      this.#at += 1;
      return false;
    }
    if (first) return true;
    this.#take(COMMA);
    if (this.peek() === close) this.fail('a comma before the end');
    return true;
  }

  /** Opens an object; then call {@link member} until it returns null. */
  openObject(): void {
    this.#take(OPEN_BRACE);
  }

  /** The next key, its colon consumed; null at the end of the object. */
  member(first: boolean, maxBytes: number): string | null {
    if (!this.#next(CLOSE_BRACE, first)) return null;
    const key = this.string(maxBytes);
    this.#take(COLON);
    return key;
  }

  /** A short array of non-negative integers. */
  integers(maxLength: number): number[] {
    this.#take(OPEN_BRACKET);
    const values: number[] = [];
    while (this.#next(CLOSE_BRACKET, values.length === 0)) {
      if (values.length === maxLength) this.fail(`more than ${maxLength} numbers`);
      values.push(this.integer());
    }
    return values;
  }

  /** A non-negative integer, written without sign, fraction or exponent, up to 2^53 - 1. */
  integer(): number {
    const first = this.peek();
    const start = this.#at;
    const bytes = this.#bytes;
    let value = 0;
    let digit = (first as number) - 0x30;
    while (digit >= 0 && digit <= 9) {
      value = value * 10 + digit;
      this.#at += 1;
      digit = (bytes[this.#at] ?? 0) - 0x30;
    }
    const length = this.#at - start;
    const after = bytes[this.#at];
    if (length === 0 || after === 0x2e || after === 0x65 || after === 0x45) {
      this.fail('a non-negative integer expected', start);
    }
    if (length > 1 && first === 0x30) this.fail('a number with a leading zero', start);
    if (value > Number.MAX_SAFE_INTEGER) this.fail('a number above 2^53', start);
    return value;
  }

  /** A number of any form, as JavaScript sees it. */
  number(): number {
    this.peek();
    const text = this.#bytes.toString('latin1', this.#at, Math.min(this.#at + 400, this.#bytes.length));
    NUMBER.lastIndex = 0;
    const match = NUMBER.exec(text);
    if (match === null) this.fail('a number expected');
    const value = Number(match[0]);
    if (!Number.isFinite(value)) this.fail('a number out of range');
    this.#at += match[0].length;
    const after = this.#bytes[this.#at] ?? 0;
    if ((after >= 0x30 && after <= 0x39) || after === 0x2e) this.fail('not a number');
    return value;
  }

  /** true, false or null. */
  literal(): boolean | null {
    this.peek();
    for (const word of LITERALS) {
      if (this.#excerpt(this.#at, this.#at + word.length) === word) {
        this.#at += word.length;
        return word === 'null' ? null : word === 'true';
      }
    }
    return this.fail('a value expected');
  }

  /** A string of at most maxBytes bytes in the document, without a pause: keep maxBytes moderate. */
  string(maxBytes: number): string {
    this.#take(QUOTE);
    const start = this.#at;
    const limit = Math.min(this.#bytes.length, start + maxBytes + 1);
    const scan = { escaped: false, plain: true };
    const close = this.#scan(start, limit, scan);
    if (close < 0)
      this.fail(limit === this.#bytes.length ? 'a string without an end' : 'a string too long', start);
    return this.#decode(start, close, scan);
  }

  /** A string of any length. */
  *longString(): Steps<string> {
    this.#take(QUOTE);
    const start = this.#at;
    const scan = { escaped: false, plain: true };
    for (let from = start; ; ) {
      const limit = Math.min(this.#bytes.length, from + STRIDE);
      const close = this.#scan(from, limit, scan);
      if (close >= 0) return this.#decode(start, close, scan);
      if (limit === this.#bytes.length) this.fail('a string without an end', start);
      from = this.#at;
      yield;
    }
  }

  /** Finds the closing quote before `limit`; else -1, with the position where to go on in #at. */
  #scan(from: number, limit: number, state: { escaped: boolean; plain: boolean }): number {
    const bytes = this.#bytes;
    let at = from;
    while (at < limit) {
      const byte = bytes[at] as number;
      if (byte === QUOTE) {
        this.#at = at + 1;
        return at;
      }
      if (byte < 0x20) this.fail('a control character in a string', at);
      if (byte === BACKSLASH) {
        state.escaped = true;
        at += 1;
      } else if (byte >= 0x80) {
        state.plain = false;
      }
      at += 1;
    }
    this.#at = at;
    return -1;
  }

  #decode(start: number, end: number, scan: { escaped: boolean; plain: boolean }): string {
    const text = scan.plain
      ? this.#bytes.toString('latin1', start, end)
      : this.#bytes.toString('utf8', start, end);
    if (!scan.escaped) return text;
    let value: string;
    try {
      value = JSON.parse(`"${text}"`) as string;
    } catch {
      return this.fail('an invalid escape in a string', start);
    }
    if (/\p{Surrogate}/u.test(value)) this.fail('half a surrogate pair in a string', start);
    return value;
  }

  /** Walks over any value, checking that it is one. */
  *skip(): Steps<void> {
    const closers: number[] = [];
    let first = false;
    let since = this.#at;
    do {
      if (this.#at - since > STRIDE) {
        since = this.#at;
        yield;
      }
      const close = closers.at(-1);
      if (close !== undefined) {
        if (!this.#next(close, first)) {
          closers.pop();
          first = false;
          continue;
        }
        if (close === CLOSE_BRACE) {
          yield* this.longString();
          this.#take(COLON);
        }
      }
      first = false;
      const byte = this.peek();
      if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
        if (closers.length === MAX_DEPTH) this.fail('a value nested too deeply');
        this.#at += 1;
        closers.push(byte === OPEN_BRACE ? CLOSE_BRACE : CLOSE_BRACKET);
        first = true;
      } else if (byte === QUOTE) {
        yield* this.longString();
      } else if (byte === 0x2d || (byte >= 0x30 && byte <= 0x39)) {
        this.number();
      } else {
        this.literal();
      }
    } while (closers.length > 0);
  }

  #excerpt(from: number, to: number): string {
    return this.#bytes.toString('utf8', from, Math.min(to, this.#bytes.length));
  }
}
