/**
 * The body of an answer, bounded while it arrives: in bytes, and in what JSON.parse would build of it. 64 MiB of '[],[],…' took it
 * 23 seconds of the event loop and 2 GB; a list nested 8,000 deep ends whoever recurses over it.
 */
import type { Budget } from './admin.js';

export interface AnswerLimits {
  readonly bytes: number;
  /** lists, objects and what they hold, all counted */
  readonly values: number;
}

const MiB = 1024 * 1024;
const SMALL: AnswerLimits = { bytes: MiB, values: 20_000 };

/** By the kind of call. The largest recorded: /metrics and /openapi.json with some 300 KB; the checksums of a large model over many workers take some MB. */
export const ANSWER_LIMITS: Readonly<Record<Budget, AnswerLimits>> = {
  probe: { bytes: 8 * MiB, values: 200_000 },
  pause: SMALL,
  init: SMALL,
  update: SMALL,
  load: SMALL,
  checksum: { bytes: 64 * MiB, values: 800_000 },
  score: { bytes: 4 * MiB, values: 50_000 },
};

const MAX_DEPTH = 64;

const QUOTE = 0x22;
const COMMA = 0x2c;
const BACKSLASH = 0x5c;
const opens = (byte: number): boolean => byte === 0x5b || byte === 0x7b;
const closes = (byte: number): boolean => byte === 0x5d || byte === 0x7d;
const isSpace = (byte: number): boolean => byte === 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d;

export class Answer {
  readonly #limits: AnswerLimits;
  readonly #chunks: Uint8Array[] = [];
  #byteLength = 0;
  /** null before the first byte that is no white space. */
  #structured: boolean | null = null;
  #depth = 0;
  #values = 0;
  #inString = false;
  #escaped = false;

  constructor(limits: AnswerLimits) {
    this.#limits = limits;
  }

  /** Takes the next bytes; what is wrong with the body, or null. */
  add(chunk: Uint8Array): string | null {
    this.#byteLength += chunk.byteLength;
    if (this.#byteLength > this.#limits.bytes) return `is larger than ${this.#limits.bytes} bytes`;
    this.#chunks.push(chunk);
    return this.#count(chunk);
  }

  /** The whole body; `json` is undefined when it is none. */
  read(): { readonly text: string; readonly json: unknown } {
    const [first, ...more] = this.#chunks;
    const bytes = more.length === 0 && Buffer.isBuffer(first) ? first : Buffer.concat(this.#chunks);
    const text = bytes.toString('utf8');
    return { text, json: parseJson(text) };
  }

  #count(chunk: Uint8Array): string | null {
    for (const byte of chunk) {
      if (this.#structured === null) {
        if (isSpace(byte)) continue;
        this.#structured = opens(byte);
      }
      if (!this.#structured) return null;
      if (this.#inString) {
        if (this.#escaped) this.#escaped = false;
        else if (byte === BACKSLASH) this.#escaped = true;
        else if (byte === QUOTE) this.#inString = false;
      } else if (byte === QUOTE) {
        this.#inString = true;
      } else if (byte === COMMA || opens(byte)) {
        if (byte !== COMMA && ++this.#depth > MAX_DEPTH) return `is nested more than ${MAX_DEPTH} deep`;
        if (++this.#values > this.#limits.values) return `has more than ${this.#limits.values} values`;
      } else if (closes(byte)) {
        this.#depth -= 1;
      }
    }
    return null;
  }
}

function parseJson(text: string): unknown {
  if (text === '') return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
