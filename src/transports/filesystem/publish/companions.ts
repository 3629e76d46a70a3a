/** The small files beside weights, by which a directory loads by itself: configuration, tokenizer, templates, code of the model. */
import { createHash } from 'node:crypto';
import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { WeightcastError } from '../../../errors.js';
import { isFileName } from '../manifest-check.js';

/** Vocabularies have some 30 MB. */
const MAX_FILE_BYTES = 128 * 2 ** 20;
const MAX_FILES = 1000;

const WANTED = /^(tokenizer.*|.*\.(json|model|jinja|txt|py|tiktoken))$/;
/** The index is made anew, and another publication's manifest is its own. */
const UNWANTED = /^(.*\.index\.json|weightcast-.*\.json|trainer_state\.json)$/;

export interface Companion {
  readonly name: string;
  readonly path: string;
  readonly byteLength: number;
  /** What it must be, where that is known. */
  readonly sha256?: string;
}

/** True for a name that belongs to a model's directory. */
export function isCompanion(name: string): boolean {
  return WANTED.test(name) && !UNWANTED.test(name) && isFileName(name);
}

/**
 * Lists them; larger ones than a model has are somebody else's.
 *
 * @throws WeightcastError WC_FILE_READ, WC_CONFIG_INVALID for a folder with thousands of them
 */
export async function companionsIn(folder: string): Promise<readonly Companion[]> {
  const entries = await reading(folder, readdir(folder, { withFileTypes: true }));
  const names = entries
    .filter((entry) => !entry.isDirectory() && isCompanion(entry.name))
    .map(({ name }) => name);
  if (names.length > MAX_FILES) {
    throw new WeightcastError(
      'WC_CONFIG_INVALID',
      `${folder} has ${names.length} small files: at most ${MAX_FILES} are published beside weights`,
      { remedy: 'Publish from a folder that holds one model and nothing else.' },
    );
  }
  const found: Companion[] = [];
  for (const name of names.sort()) {
    const path = join(folder, name);
    const byteLength = await sizeOf(path);
    if (byteLength !== null && byteLength <= MAX_FILE_BYTES) found.push({ name, path, byteLength });
  }
  return found;
}

/** Null for what is no file. Hugging Face's cache has links, so they count as what they lead to. */
async function sizeOf(path: string): Promise<number | null> {
  const status = await reading(path, stat(path));
  return status.isFile() ? status.size : null;
}

/** @throws WeightcastError WC_CHECKPOINT_CHANGED when it has another size by now; WC_VERSION_CORRUPT; WC_FILE_READ */
export async function readCompanion({ path, byteLength, sha256 }: Companion): Promise<Buffer> {
  await using file = await reading(path, open(path, 'r'));
  const bytes = Buffer.alloc(byteLength + 1);
  let done = 0;
  for (;;) {
    const { bytesRead } = await reading(path, file.read(bytes, done, bytes.length - done, done));
    done += bytesRead;
    if (bytesRead === 0 || done === bytes.length) break;
  }
  if (done !== byteLength) {
    throw new WeightcastError('WC_CHECKPOINT_CHANGED', `${path} changed while it was read`, {
      details: { path },
    });
  }
  const read = bytes.subarray(0, done);
  if (sha256 !== undefined && sha256Of(read) !== sha256) {
    throw new WeightcastError('WC_VERSION_CORRUPT', `${path} is not what its manifest says`, {
      details: { path },
    });
  }
  return read;
}

export function sha256Of(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

async function reading<T>(path: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    throw new WeightcastError('WC_FILE_READ', `${path}: ${message}`, {
      cause,
      details: { path, code: code ?? null },
    });
  }
}
