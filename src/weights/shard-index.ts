/** model.safetensors.index.json: which shard holds which tensor. */
import { isUtf8 } from 'node:buffer';
import { readFile, stat } from 'node:fs/promises';
import { WeightcastError } from '../errors.js';
import { JsonError, JsonReader } from './json.js';
import { runInSlices, type Steps } from './yielding.js';

const MAX_INDEX_BYTES = 64 * 1024 * 1024;
const MAX_STRING_BYTES = 1 << 16;
const MAX_FILE_NAME_BYTES = 255;
const ENTRIES_PER_STEP = 32;
/** The largest published checkpoints have some 200,000 tensors. */
const MAX_TENSORS = 1_000_000;
const MAX_OTHER_MEMBERS = 1000;

export interface ShardIndex {
  /** Sum of the tensors' bytes, where the index says it. */
  readonly totalSize: number | null;
  /** Tensor name → file name, in the index's order. */
  readonly weightMap: ReadonlyMap<string, string>;
}

/**
 * Reads an index. File names that leave the directory are refused: an index comes from elsewhere.
 *
 * @throws WeightcastError WC_CHECKPOINT_INVALID, WC_FILE_READ
 */
export async function readShardIndex(path: string, signal: AbortSignal | null): Promise<ShardIndex> {
  let bytes: Buffer;
  try {
    const status = await stat(path);
    if (!status.isFile() || status.size > MAX_INDEX_BYTES) {
      throw invalid(path, status.isFile() ? `more than ${MAX_INDEX_BYTES} bytes` : 'not a regular file');
    }
    bytes = await readFile(path, signal === null ? {} : { signal });
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof WeightcastError) throw error;
    throw new WeightcastError('WC_FILE_READ', `${path}: ${(error as Error).message}`, { cause: error });
  }
  return runInSlices(parseShardIndex(bytes, path), signal);
}

/** @throws WeightcastError WC_CHECKPOINT_INVALID */
export function* parseShardIndex(bytes: Buffer, path: string): Steps<ShardIndex> {
  if (!isUtf8(bytes)) throw invalid(path, 'not valid UTF-8');
  try {
    return yield* parse(new JsonReader(bytes));
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    throw invalid(path, `${error.message} (byte ${error.at})`);
  }
}

function* parse(reader: JsonReader): Steps<ShardIndex> {
  let totalSize: number | null = null;
  let weightMap: ReadonlyMap<string, string> | null = null;
  yield* eachMember(reader, MAX_OTHER_MEMBERS, function* (key) {
    if (key === 'weight_map') {
      weightMap = yield* readWeightMap(reader);
    } else if (key === 'metadata' && reader.peek() === 0x7b) {
      yield* eachMember(reader, MAX_OTHER_MEMBERS, function* (field) {
        if (field === 'total_size') totalSize = readSize(reader);
        else yield* reader.skip();
      });
    } else {
      yield* reader.skip();
    }
  });
  reader.end();
  return { totalSize, weightMap: weightMap ?? reader.fail('no weight_map') };
}

/** Some writers leave a float, 123.0, or a null. */
function readSize(reader: JsonReader): number | null {
  if (reader.peek() === 0x6e) {
    reader.literal();
    return null;
  }
  const value = reader.number();
  if (!Number.isSafeInteger(value) || value < 0) reader.fail('total_size is not a number of bytes');
  return value;
}

function* readWeightMap(reader: JsonReader): Steps<Map<string, string>> {
  const map = new Map<string, string>();
  const checked = new Map<string, string>();
  yield* eachMember(reader, MAX_TENSORS, function* (name) {
    const file = reader.string(MAX_STRING_BYTES);
    const known = checked.get(file);
    if (known === undefined) checked.set(file, checkFileName(reader, file));
    // One string object for each file, not one for each tensor.
    map.set(name, known ?? file);
    if (map.size % ENTRIES_PER_STEP === 0) yield;
  });
  return map;
}

function checkFileName(reader: JsonReader, file: string): string {
  if (
    file === '.' ||
    file === '..' ||
    file.length === 0 ||
    Buffer.byteLength(file) > MAX_FILE_NAME_BYTES ||
    /[/\\\0]/.test(file)
  ) {
    reader.fail(
      `${JSON.stringify(file.slice(0, 300))} is not the name of a file in the checkpoint's directory`,
    );
  }
  return file;
}

function* eachMember(reader: JsonReader, most: number, visit: (key: string) => Steps<void>): Steps<void> {
  const seen = new Set<string>();
  reader.openObject();
  for (let first = true; ; first = false) {
    const at = reader.at;
    const key = reader.member(first, MAX_STRING_BYTES);
    if (key === null) return;
    if (seen.has(key)) reader.fail(`a second ${JSON.stringify(key)}`, at);
    if (seen.size === most) reader.fail(`more than ${most} members`, at);
    seen.add(key);
    yield* visit(key);
  }
}

function invalid(path: string, message: string): WeightcastError {
  return new WeightcastError('WC_CHECKPOINT_INVALID', `${path}: ${message}`, { details: { path } });
}
