/** JSON documents as values, where JSON.parse would hide duplicate keys, block the event loop or build whatever it is given. */
import { isUtf8 } from 'node:buffer';
import { JsonError, JsonReader } from './json.js';
import type { Steps } from './yielding.js';

export interface ValueLimits {
  /** Deepest nesting of objects and arrays. */
  readonly depth: number;
  /** Values in all: members, elements and the document itself. */
  readonly values: number;
  /** Bytes of a string, as it is written. */
  readonly stringBytes: number;
}

const VALUES_PER_STEP = 512;
const OPEN_BRACE = 0x7b;
const OPEN_BRACKET = 0x5b;
const QUOTE = 0x22;
const MINUS = 0x2d;

/**
 * Reads one document. Objects have no prototype, so that no key means anything.
 *
 * @throws JsonError also for a duplicate key, for what is not UTF-8, and beyond the limits
 */
export function* parseJsonValue(bytes: Buffer, limits: ValueLimits): Steps<unknown> {
  if (!isUtf8(bytes)) throw new JsonError('not valid UTF-8', 0);
  const reader = new JsonReader(bytes);
  const value = yield* readValue(reader, { left: limits.values, limits }, 0);
  reader.end();
  return value;
}

interface Budget {
  left: number;
  readonly limits: ValueLimits;
}

function* readValue(reader: JsonReader, budget: Budget, depth: number): Steps<unknown> {
  budget.left -= 1;
  if (budget.left < 0) reader.fail(`more than ${budget.limits.values} values`);
  if (budget.left % VALUES_PER_STEP === 0) yield;
  const byte = reader.peek();
  if (byte === QUOTE) return reader.string(budget.limits.stringBytes);
  if (byte === MINUS || (byte >= 0x30 && byte <= 0x39)) return reader.number();
  if (byte !== OPEN_BRACE && byte !== OPEN_BRACKET) return reader.literal();
  if (depth === budget.limits.depth) reader.fail('a value nested too deeply');
  return byte === OPEN_BRACE
    ? yield* readObject(reader, budget, depth + 1)
    : yield* readArray(reader, budget, depth + 1);
}

function* readObject(reader: JsonReader, budget: Budget, depth: number): Steps<Record<string, unknown>> {
  const object: Record<string, unknown> = Object.create(null);
  reader.openObject();
  for (let first = true; ; first = false) {
    const at = reader.at;
    const key = reader.member(first, budget.limits.stringBytes);
    if (key === null) return object;
    if (key in object) reader.fail(`a second ${JSON.stringify(key.slice(0, 300))}`, at);
    object[key] = yield* readValue(reader, budget, depth);
  }
}

function* readArray(reader: JsonReader, budget: Budget, depth: number): Steps<unknown[]> {
  const array: unknown[] = [];
  reader.openArray();
  for (let first = true; reader.element(first); first = false) {
    array.push(yield* readValue(reader, budget, depth));
  }
  return array;
}
