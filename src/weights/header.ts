/**
 * The JSON header of a safetensors file, by the rules that the reference library (Rust safetensors 0.8.0) enforces; test/weights/vectors
 * holds what that library was seen to accept and refuse. Stricter than it, on purpose: a duplicate key of any kind, white space before
 * the first brace (the format forbids it, the library lets it pass), a tensor written as a list, more than 64 dimensions, and numbers above
 * 2^53 are refused.
 */
import { isUtf8 } from 'node:buffer';
import { DTYPES, type DType } from './dtype.js';
import { JsonError, JsonReader } from './json.js';
import type { Steps } from './yielding.js';

const MAX_NAME_BYTES = 1 << 16;
const MAX_DIMENSIONS = 64;
const ENTRIES_PER_STEP = 16;
const OPEN_BRACE = 0x7b;
const SMALL_N = 0x6e;

/** One tensor as the header declares it: begin and end in bytes, from the end of the header. */
export interface HeaderEntry {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

export interface Header {
  readonly metadata: ReadonlyMap<string, string>;
  /** In the order of their bytes. */
  readonly entries: readonly HeaderEntry[];
}

/** What is wrong with a header, and with which tensor. */
export class HeaderError extends Error {
  readonly tensor: string | null;
  readonly facts: Readonly<Record<string, unknown>>;
  constructor(message: string, tensor: string | null, facts: Readonly<Record<string, unknown>> = {}) {
    super(message);
    this.name = 'HeaderError';
    this.tensor = tensor;
    this.facts = facts;
  }
}

/**
 * Parses a header and holds its offsets against the `dataBytes` bytes that follow it in the file.
 *
 * @throws HeaderError
 */
export function* parseHeader(bytes: Buffer, dataBytes: number): Steps<Header> {
  if (!isUtf8(bytes)) throw new HeaderError('the header is not valid UTF-8', null);
  if (bytes[0] !== OPEN_BRACE) throw new HeaderError("the header does not begin with '{'", null);
  const reader = new JsonReader(bytes);
  const byName = new Map<string, HeaderEntry>();
  let metadata: Map<string, string> | null = null;
  let current: string | null = null;
  try {
    reader.openObject();
    for (let first = true; ; first = false) {
      const at = reader.at;
      current = null;
      const name = reader.member(first, MAX_NAME_BYTES);
      if (name === null) break;
      if (name === '__metadata__') {
        if (metadata !== null) reader.fail('a second __metadata__', at);
        metadata = yield* readMetadata(reader);
        continue;
      }
      current = name;
      if (byName.has(name)) reader.fail('a second tensor of that name', at);
      byName.set(name, yield* readEntry(reader, name));
      if (byName.size % ENTRIES_PER_STEP === 0) yield;
    }
    reader.end();
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    const place = current === null ? '' : `, in tensor ${JSON.stringify(current)}`;
    throw new HeaderError(`${error.message} (header byte ${error.at}${place})`, current, {
      headerByte: error.at,
    });
  }
  return { metadata: metadata ?? new Map(), entries: yield* inByteOrder(byName, dataBytes) };
}

function* readMetadata(reader: JsonReader): Steps<Map<string, string>> {
  const metadata = new Map<string, string>();
  if (reader.peek() === SMALL_N) {
    reader.literal();
    return metadata;
  }
  reader.openObject();
  for (let first = true; ; first = false) {
    const at = reader.at;
    const key = reader.member(first, MAX_NAME_BYTES);
    if (key === null) return metadata;
    if (metadata.has(key)) reader.fail(`a second ${JSON.stringify(key)} in __metadata__`, at);
    metadata.set(key, yield* reader.longString());
    if (metadata.size % ENTRIES_PER_STEP === 0) yield;
  }
}

function* readEntry(reader: JsonReader, name: string): Steps<HeaderEntry> {
  let dtype: DType | null = null;
  let shape: number[] | null = null;
  let offsets: number[] | null = null;
  let unknown: Set<string> | null = null;
  reader.openObject();
  for (let first = true; ; first = false) {
    const at = reader.at;
    const field = reader.member(first, MAX_NAME_BYTES);
    if (field === null) break;
    const seen: boolean =
      field === 'dtype'
        ? dtype !== null
        : field === 'shape'
          ? shape !== null
          : field === 'data_offsets'
            ? offsets !== null
            : (unknown?.has(field) ?? false);
    if (seen) reader.fail(`a second ${JSON.stringify(field)}`, at);
    if (field === 'dtype') {
      const value = reader.string(64);
      dtype = DTYPES.get(value) ?? reader.fail(`unknown dtype ${JSON.stringify(value)}`);
    } else if (field === 'shape') {
      shape = reader.integers(MAX_DIMENSIONS);
    } else if (field === 'data_offsets') {
      offsets = reader.integers(2);
    } else {
      // The reference library lets fields pass that it does not know.
      unknown ??= new Set();
      unknown.add(field);
      yield* reader.skip();
    }
  }
  if (dtype === null || shape === null || offsets === null) {
    const missing = dtype === null ? 'dtype' : shape === null ? 'shape' : 'data_offsets';
    return reader.fail(`no ${missing}`);
  }
  const [begin, end] = offsets;
  if (begin === undefined || end === undefined) return reader.fail('data_offsets needs two numbers');
  const byteLength = sizeOf(reader, dtype, shape);
  if (end - begin !== byteLength) {
    throw new HeaderError(
      `tensor ${JSON.stringify(name)}: data_offsets [${begin}, ${end}] do not hold ${dtype.name} [${shape.join(', ')}], which is ${byteLength} bytes`,
      name,
      { begin, end, byteLength },
    );
  }
  return { name, dtype, shape, begin, end };
}

function sizeOf(reader: JsonReader, dtype: DType, shape: readonly number[]): number {
  let bits = dtype.bits;
  for (const dimension of shape) {
    bits *= dimension;
    if (bits > Number.MAX_SAFE_INTEGER) reader.fail('a shape too large for any file');
  }
  if (bits % 8 !== 0) reader.fail(`${dtype.name} [${shape.join(', ')}] does not fill whole bytes`);
  return bits / 8;
}

/**
 * Follows the offsets from 0 to the end: no hole, no overlap, nothing left over. Linear, so that a hostile header costs no sort; files
 * whose header already lists the tensors in order (as the reference library writes them) cost no lookup either.
 */
function* inByteOrder(byName: ReadonlyMap<string, HeaderEntry>, dataBytes: number): Steps<HeaderEntry[]> {
  const ordered: HeaderEntry[] = [];
  const starting = new Map<number, HeaderEntry>();
  const empty = new Map<number, HeaderEntry[]>();
  let position = 0;
  let last: HeaderEntry | null = null;
  let steps = 0;
  for (const entry of byName.values()) {
    if (++steps % ENTRIES_PER_STEP === 0) yield;
    if (entry.begin === position && starting.size === 0 && empty.size === 0) {
      ordered.push(entry);
      position = entry.end;
      last = entry;
    } else if (entry.begin === entry.end) {
      const others = empty.get(entry.begin);
      if (others === undefined) empty.set(entry.begin, [entry]);
      else others.push(entry);
    } else {
      const other = starting.get(entry.begin);
      if (other !== undefined) throw overlap(other, entry);
      starting.set(entry.begin, entry);
    }
  }
  while (ordered.length < byName.size) {
    if (++steps % ENTRIES_PER_STEP === 0) yield;
    const none = empty.get(position);
    if (none !== undefined) {
      for (const entry of none) ordered.push(entry);
      empty.delete(position);
    }
    const entry = starting.get(position);
    if (entry === undefined) break;
    ordered.push(entry);
    position = entry.end;
    last = entry;
  }
  if (ordered.length < byName.size) throw astray(byName, new Set(ordered), position, last);
  if (position !== dataBytes) {
    throw new HeaderError(
      `the tensors take ${position} bytes, but ${dataBytes} bytes follow the header`,
      last?.name ?? null,
      { end: position, dataBytes },
    );
  }
  return ordered;
}

function overlap(a: HeaderEntry, b: HeaderEntry): HeaderError {
  return new HeaderError(
    `tensors ${JSON.stringify(a.name)} [${a.begin}, ${a.end}] and ${JSON.stringify(b.name)} [${b.begin}, ${b.end}] overlap`,
    b.name,
    { begin: b.begin, end: b.end, other: a.name },
  );
}

function astray(
  byName: ReadonlyMap<string, HeaderEntry>,
  placed: ReadonlySet<HeaderEntry>,
  position: number,
  last: HeaderEntry | null,
): HeaderError {
  let nearest: HeaderEntry | null = null;
  for (const entry of byName.values()) {
    if (!placed.has(entry) && (nearest === null || entry.begin < nearest.begin)) nearest = entry;
  }
  const entry = nearest as HeaderEntry;
  if (entry.begin < position && last !== null) return overlap(last, entry);
  return new HeaderError(
    `bytes ${position} to ${entry.begin} belong to no tensor: ${JSON.stringify(entry.name)} begins at ${entry.begin}`,
    entry.name,
    { begin: entry.begin, end: entry.end },
  );
}
