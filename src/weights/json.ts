/**
 * A pull parser for large JSON documents that come from elsewhere. JSON.parse hides duplicate keys, blocks the event loop and
 * builds whatever it is given; here the caller says what it expects, byte offsets go into errors, and long work can be cut.
 */

import type { Steps } from './yielding.js';

/** Deepest nesting of a skipped value, as serde_json (and so the reference safetensors reader) has it. */
const MAX_DEPTH = 125;
/** Keys of one skipped value: each is remembered, so that none comes twice. */
const MAX_SKIPPED_KEYS = 100_000;
/** Characters of a key in a message. */
const SHOWN_KEY = 200;
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

/** Bytes that a scan of a string has to look at: the quote, the backslash, control characters, and what is not ASCII. */
const SPECIAL = Uint8Array.from({ length: 256 }, (_, byte) =>
  Number(byte < 0x20 || byte >= 0x80 || byte === QUOTE || byte === BACKSLASH),
);

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
  #at: number;
  /** The string that was taken last: its bytes between the quotes, and what they are. */
  #start = 0;
  #end = 0;
  #escaped = false;
  #plain = true;

  constructor(bytes: Buffer, at = 0) {
    this.#bytes = bytes;
    this.#at = at;
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
    const end = bytes.length;
    let at = this.#at;
    while (at < end) {
      const byte = bytes[at] as number;
      if (byte > 0x20 || (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09)) {
        this.#at = at;
        return byte;
      }
      at += 1;
    }
    this.#at = at;
    return -1;
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
    return this.key(first, maxBytes) ? this.text() : null;
  }

  /** As {@link member}, but makes no string: ask for the key with {@link is} or {@link text}. False at the end of the object. */
  key(first: boolean, maxBytes: number): boolean {
    if (!this.#next(CLOSE_BRACE, first)) return false;
    this.token(maxBytes);
    this.#take(COLON);
    return true;
  }

  /** Opens an array; then call {@link element} until it returns false. */
  openArray(): void {
    this.#take(OPEN_BRACKET);
  }

  /** True when there is another element, which is next; false at the end of the array. */
  element(first: boolean): boolean {
    return this.#next(CLOSE_BRACKET, first);
  }

  /** A short array of non-negative integers into `values`, as many as it holds at most; how many there were. */
  integers(values: Float64Array): number {
    this.#take(OPEN_BRACKET);
    let count = 0;
    for (; this.#next(CLOSE_BRACKET, count === 0); count += 1) {
      if (count === values.length) this.fail(`more than ${values.length} numbers`);
      values[count] = this.integer();
    }
    return count;
  }

  /** A non-negative integer, written without sign, fraction or exponent, up to 2^53 - 1. */
  integer(): number {
    const first = this.peek();
    const start = this.#at;
    const bytes = this.#bytes;
    const end = bytes.length;
    let at = start;
    let value = 0;
    for (; at < end; at += 1) {
      const digit = (bytes[at] as number) - 0x30;
      if (digit < 0 || digit > 9) break;
      value = value * 10 + digit;
    }
    this.#at = at;
    const length = at - start;
    const after = bytes[at];
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
    this.token(maxBytes);
    return this.text();
  }

  /** Takes such a string and makes none yet: ask for it with {@link is}, {@link text} or {@link utf8}. */
  token(maxBytes: number): void {
    this.#take(QUOTE);
    const start = this.#at;
    const limit = Math.min(this.#bytes.length, start + maxBytes + 1);
    this.#open(start);
    if (!this.#scan(start, limit))
      this.fail(limit === this.#bytes.length ? 'a string without an end' : 'a string too long', start);
  }

  /** A string of any length. */
  *longString(): Steps<string> {
    this.#take(QUOTE);
    const start = this.#at;
    this.#open(start);
    for (let from = start; ; ) {
      const limit = Math.min(this.#bytes.length, from + STRIDE);
      if (this.#scan(from, limit)) return this.text();
      if (limit === this.#bytes.length) this.fail('a string without an end', start);
      from = this.#at;
      yield;
    }
  }

  /** True when the string taken last is this one, which is ASCII and needs no escape. */
  is(word: Uint8Array): boolean {
    if (this.#escaped) return this.text() === Buffer.from(word).toString('latin1');
    const start = this.#start;
    if (this.#end - start !== word.length) return false;
    const bytes = this.#bytes;
    for (let i = 0; i < word.length; i += 1) if (bytes[start + i] !== word[i]) return false;
    return true;
  }

  /** The string taken last. */
  text(): string {
    const text = this.#plain
      ? this.#bytes.toString('latin1', this.#start, this.#end)
      : this.#bytes.toString('utf8', this.#start, this.#end);
    return this.#escaped ? this.#unescaped(text) : text;
  }

  /** The string taken last as UTF-8, with where in `bytes` it is. */
  utf8(): { readonly bytes: Uint8Array; readonly start: number; readonly end: number } {
    if (!this.#escaped) return { bytes: this.#bytes, start: this.#start, end: this.#end };
    const bytes = Buffer.from(this.text());
    return { bytes, start: 0, end: bytes.length };
  }

  #open(start: number): void {
    this.#start = start;
    this.#escaped = false;
    this.#plain = true;
  }

  /** Finds the closing quote before `limit`; else false, with the position where to go on in #at. */
  #scan(from: number, limit: number): boolean {
    const bytes = this.#bytes;
    let at = from;
    while (at < limit) {
      const byte = bytes[at] as number;
      if (SPECIAL[byte] !== 0) {
        if (byte === QUOTE) {
          this.#end = at;
          this.#at = at + 1;
          return true;
        }
        if (byte < 0x20) this.fail('a control character in a string', at);
        if (byte === BACKSLASH) {
          this.#escaped = true;
          at += 1;
        } else {
          this.#plain = false;
        }
      }
      at += 1;
    }
    this.#at = at;
    return false;
  }

  #unescaped(text: string): string {
    let value: string;
    try {
      value = JSON.parse(`"${text}"`) as string;
    } catch {
      return this.fail('an invalid escape in a string', this.#start);
    }
    if (/\p{Surrogate}/u.test(value)) this.fail('half a surrogate pair in a string', this.#start);
    return value;
  }

  /** Walks over any value, checking that it is one and that no object in it has a key twice. */
  *skip(): Steps<void> {
    const closers: number[] = [];
    const keys: Set<string>[] = [];
    let keyCount = 0;
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
          if (closers.pop() === CLOSE_BRACE) keys.pop();
          first = false;
          continue;
        }
        if (close === CLOSE_BRACE) {
          const at = this.#at;
          const key = yield* this.longString();
          const known = keys.at(-1) as Set<string>;
          if (known.has(key)) this.fail(`a second ${JSON.stringify(key.slice(0, SHOWN_KEY))}`, at);
          if (++keyCount > MAX_SKIPPED_KEYS) this.fail(`more than ${MAX_SKIPPED_KEYS} keys in one value`, at);
          known.add(key);
          this.#take(COLON);
        }
      }
      first = false;
      const byte = this.peek();
      if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
        if (closers.length === MAX_DEPTH) this.fail('a value nested too deeply');
        this.#at += 1;
        closers.push(byte === OPEN_BRACE ? CLOSE_BRACE : CLOSE_BRACKET);
        if (byte === OPEN_BRACE) keys.push(new Set());
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
