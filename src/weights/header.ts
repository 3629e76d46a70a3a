/**
 * The JSON header of a safetensors file, by the rules that the reference library (Rust safetensors 0.8.0) enforces. Whatever that library refuses is
 * refused here. Stricter than it, on purpose: a duplicate key of any kind and at any depth, white space before the first brace (the format
 * forbids both, the library lets them pass), a tensor written as a list or its dtype as an object (serde takes those for the same), more than
 * 64 dimensions, numbers above 2^53, and the bounds on what nobody reads: keys above 64 KiB, 100,000 entries of metadata, 1,000 unknown fields of a tensor,
 * 100,000 keys in one of them and numbers of 400 characters. test/weights/vectors holds what the library was seen to accept and refuse;
 * test/peers/safetensors-fuzz.test.ts asks it about random files, and `npm run fuzz:safetensors` about millions of them.
 */
import { isUtf8 } from 'node:buffer';
import { byteOrder } from './header/byte-order.js';
import { type HeaderColumns, Rows } from './header/columns.js';
import { EntryReader, emptyRow, SizeError } from './header/entry.js';
import { HeaderError } from './header/error.js';
import { JsonError, JsonReader } from './json.js';
import type { Steps } from './yielding.js';

export type { HeaderColumns } from './header/columns.js';
export { HeaderError } from './header/error.js';
export { tensorsOf } from './header/tensors.js';

export const LENGTH_BYTES = 8;
/** The reference library's limit. */
const MAX_HEADER_BYTES = 100_000_000;
const MAX_NAME_BYTES = 1 << 16;
const TENSORS_PER_STEP = 16;
const MEMBERS_PER_STEP = 16;
const MAX_METADATA = 100_000;
const OPEN_BRACE = 0x7b;
const SMALL_N = 0x6e;
const METADATA = new TextEncoder().encode('__metadata__');

/**
 * How many bytes of JSON follow the first 8 of a file of `fileBytes` bytes.
 *
 * @throws HeaderError
 */
export function headerLength(prefix: Buffer, fileBytes: number): number {
  const length = prefix.readBigUInt64LE();
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw new HeaderError(`a header of ${length} bytes: the format allows ${MAX_HEADER_BYTES}`, null);
  }
  if (length > BigInt(fileBytes - LENGTH_BYTES)) {
    throw new HeaderError(`a header of ${length} bytes in a file of ${fileBytes} bytes`, null);
  }
  return Number(length);
}

/** Where the tensors of a header begin that has its metadata, if any, before them: at that brace or comma. null where it begins otherwise. */
export function* tensorsAt(
  bytes: Buffer,
): Steps<{ readonly from: number; readonly metadataAt: number } | null> {
  if (bytes[0] !== OPEN_BRACE || !isUtf8(bytes)) return null;
  const reader = new JsonReader(bytes);
  try {
    reader.openObject();
    if (!reader.key(true, MAX_NAME_BYTES) || !reader.is(METADATA)) return { from: 0, metadataAt: -1 };
    const metadataAt = reader.at;
    yield* readMetadata(reader);
    return { from: reader.at, metadataAt };
  } catch (error) {
    if (error instanceof JsonError) return null;
    throw error;
  }
}

/**
 * Parses a header and holds its offsets against the `dataBytes` bytes that follow it in the file.
 *
 * @throws HeaderError
 */
export function* parseHeader(bytes: Buffer, dataBytes: number): Steps<HeaderColumns> {
  if (!isUtf8(bytes)) throw new HeaderError('the header is not valid UTF-8', null);
  if (bytes[0] !== OPEN_BRACE) throw new HeaderError("the header does not begin with '{'", null);
  const rows = new Rows(bytes.length);
  const reader = new JsonReader(bytes);
  const row = emptyRow();
  const entry = new EntryReader(reader, row);
  let inTensor = false;
  try {
    reader.openObject();
    for (let first = true; ; first = false) {
      const at = reader.at;
      inTensor = false;
      if (!reader.key(first, MAX_NAME_BYTES)) break;
      if (reader.is(METADATA)) {
        if (rows.metadataAt >= 0) reader.fail('a second __metadata__', at);
        rows.metadataAt = reader.at;
        yield* readMetadata(reader);
        continue;
      }
      const name = reader.utf8();
      const isNew = rows.names.add(name.bytes, name.start, name.end);
      inTensor = true;
      if (!isNew) reader.fail('a second tensor of that name', at);
      entry.open();
      while (!entry.read()) yield* reader.skip();
      rows.push(row);
      if (rows.count % TENSORS_PER_STEP === 0) yield;
    }
    reader.end();
  } catch (error) {
    throw describe(error, inTensor ? rows.names.at(rows.count) : null);
  }
  return rows.columns(yield* byteOrder(rows, dataBytes));
}

function describe(error: unknown, name: string | null): unknown {
  if (error instanceof SizeError) {
    return new HeaderError(`tensor ${JSON.stringify(name)}: ${error.message}`, name, error.facts);
  }
  if (!(error instanceof JsonError)) return error;
  const place = name === null ? '' : `, in tensor ${JSON.stringify(name)}`;
  return new HeaderError(`${error.message} (header byte ${error.at}${place})`, name, {
    headerByte: error.at,
  });
}

/** Reads the metadata of a header that was parsed before. */
export function* metadataOf(bytes: Buffer, { metadataAt }: HeaderColumns): Steps<Map<string, string>> {
  return metadataAt < 0 ? new Map() : yield* readMetadata(new JsonReader(bytes, metadataAt));
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
    if (metadata.size === MAX_METADATA) reader.fail(`more than ${MAX_METADATA} entries in __metadata__`, at);
    metadata.set(key, yield* reader.longString());
    if (metadata.size % MEMBERS_PER_STEP === 0) yield;
  }
}
