/** safetensors files: an 8-byte little-endian length, that many bytes of JSON, then the tensors' bytes. */
import { type FileHandle, open, stat } from 'node:fs/promises';
import { WeightcastError } from '../errors.js';
import { scanHeader } from './header/scan.js';
import { parseOnThread } from './header/thread.js';
import {
  type HeaderColumns,
  HeaderError,
  headerLength,
  LENGTH_BYTES,
  metadataOf,
  parseHeader,
  tensorsOf,
} from './header.js';
import type { Tensor } from './tensor.js';
import { stampOf } from './unchanged.js';
import { runInSlices } from './yielding.js';

/** Starting a thread takes as long as parsing this much. */
const THREAD_BYTES = 1 << 20;

export interface SafetensorsFile {
  readonly path: string;
  /** Size of the whole file. */
  readonly byteLength: number;
  /** Which file it was, and of when; see unchanged.ts. */
  readonly stamp: string;
  /** Where the tensors' bytes begin: the length prefix and the JSON. */
  readonly headerByteLength: number;
  readonly metadata: ReadonlyMap<string, string>;
  /** In the order of their bytes; offsets count from the beginning of the file. */
  readonly tensors: readonly Tensor[];
}

/**
 * Reads and checks the header of a safetensors file. No tensor byte is read. The header is parsed on a thread of its own, or in
 * slices of a few milliseconds.
 *
 * @throws WeightcastError WC_SAFETENSORS_INVALID naming file, tensor and offsets; WC_FILE_READ when the file can't be read.
 * @example
 * ```ts
 * const file = await readSafetensorsHeader('model.safetensors');
 * for (const { name, dtype, shape } of file.tensors) console.log(name, dtype.name, shape);
 * ```
 */
export async function readSafetensorsHeader(
  path: string,
  options: { readonly signal?: AbortSignal | undefined } = {},
): Promise<SafetensorsFile> {
  const signal = options.signal ?? null;
  signal?.throwIfAborted();
  let raw: RawHeader;
  try {
    raw = await readRaw(path);
  } catch (error) {
    if (error instanceof WeightcastError) throw error;
    if (error instanceof HeaderError) throw invalid(path, error.message);
    throw new WeightcastError('WC_FILE_READ', `${path}: ${(error as Error).message}`, {
      cause: error,
      details: { path, code: (error as NodeJS.ErrnoException).code ?? null },
    });
  }
  const headerByteLength = LENGTH_BYTES + raw.header.length;
  try {
    const columns = await parse(raw.header, raw.byteLength - headerByteLength, signal);
    const metadata = await runInSlices(metadataOf(raw.header, columns), signal);
    const tensors = await runInSlices(tensorsOf(columns, { path, headerByteLength }), signal);
    const { byteLength, stamp } = raw;
    return { path, byteLength, stamp, headerByteLength, metadata, tensors };
  } catch (error) {
    if (!(error instanceof HeaderError)) throw error;
    throw invalid(path, error.message, { tensor: error.tensor, ...error.facts });
  }
}

/** Nearly every header takes the quick way. A long one of another form is parsed on a thread of its own where there can be one; else, as a short one, in slices. */
async function parse(header: Buffer, dataBytes: number, signal: AbortSignal | null): Promise<HeaderColumns> {
  const scanned = await scanHeader(header, dataBytes, signal);
  if (scanned !== null) return scanned;
  if (header.length > THREAD_BYTES) {
    const columns = await parseOnThread({ header: shared(header), dataBytes }, signal);
    if (columns !== null) return columns;
  }
  return runInSlices(parseHeader(header, dataBytes), signal);
}

function shared(header: Buffer): SharedArrayBuffer {
  const copy = new SharedArrayBuffer(header.length);
  header.copy(Buffer.from(copy));
  return copy;
}

interface RawHeader {
  readonly header: Buffer;
  readonly byteLength: number;
  readonly stamp: string;
}

async function readRaw(path: string): Promise<RawHeader> {
  // Opening a pipe would wait for its writer.
  if (!(await stat(path)).isFile()) throw invalid(path, 'not a regular file');
  await using file = await open(path, 'r');
  const status = await file.stat({ bigint: true });
  const byteLength = Number(status.size);
  if (byteLength < LENGTH_BYTES) throw invalid(path, `${byteLength} bytes: too short for a header`);
  const prefix = await readExactly(file, path, LENGTH_BYTES, 0);
  const header = await readExactly(file, path, headerLength(prefix, byteLength), LENGTH_BYTES);
  return { header, byteLength, stamp: stampOf(status) };
}

async function readExactly(
  file: FileHandle,
  path: string,
  byteLength: number,
  offset: number,
): Promise<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(byteLength);
  let done = 0;
  while (done < byteLength) {
    const { bytesRead } = await file.read(buffer, done, byteLength - done, offset + done);
    if (bytesRead === 0) {
      throw new WeightcastError('WC_CHECKPOINT_CHANGED', `${path} became shorter while its header was read`);
    }
    done += bytesRead;
  }
  return buffer;
}

function invalid(path: string, message: string, details: Record<string, unknown> = {}): WeightcastError {
  return new WeightcastError('WC_SAFETENSORS_INVALID', `${path}: ${message}`, {
    details: { path, ...details },
  });
}
