/** Checkpoints as Hugging Face writes them: one safetensors file, or shards with an index. */
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { WeightcastError } from '../errors.js';
import { readSafetensorsHeader, type SafetensorsFile } from './safetensors.js';
import { readShardIndex, type ShardIndex } from './shard-index.js';
import type { Tensor } from './tensor.js';
import { runInSlices, type Steps } from './yielding.js';

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';
const CONCURRENT_HEADERS = 8;

export interface CheckpointFile {
  readonly path: string;
  /** Size of the whole file, in bytes. */
  readonly byteLength: number;
  /** Which file it was, and of when; see unchanged.ts. */
  readonly stamp: string;
}

export interface Checkpoint {
  /** The directory that an engine can load these very tensors from; null for a file that has others beside it. */
  readonly path: string | null;
  readonly files: readonly CheckpointFile[];
  /** File by file, in the order of their bytes; see orderForLoading for the order to send. */
  readonly tensors: readonly Tensor[];
  /** Bytes of all tensors. */
  readonly byteLength: number;
  /** `__metadata__` of the first file: 'format' → 'pt' and the like. */
  readonly metadata: ReadonlyMap<string, string>;
}

/**
 * Opens a checkpoint: a directory with model.safetensors.index.json or model.safetensors, or one .safetensors file. Only headers are read.
 * When a directory has both, the index wins, as in vLLM, which loads only the files that the index names (transformers would take the
 * single file).
 *
 * @throws WeightcastError WC_CHECKPOINT_NOT_FOUND, WC_CHECKPOINT_SHARD_MISSING, WC_CHECKPOINT_INVALID, WC_SAFETENSORS_INVALID, WC_FILE_READ
 * @example
 * ```ts
 * const checkpoint = await openCheckpoint('/models/step_1200');
 * console.log(checkpoint.tensors.length, checkpoint.byteLength);
 * ```
 */
export async function openCheckpoint(
  path: string,
  options: { readonly signal?: AbortSignal | undefined } = {},
): Promise<Checkpoint> {
  const signal = options.signal ?? null;
  signal?.throwIfAborted();
  const full = resolve(path);
  const kind = await kindOf(full);
  if (kind === null) throw notFound(full, 'no such file or directory');
  if (kind === 'file') {
    if (!full.endsWith('.safetensors')) throw notFound(full, 'not a .safetensors file');
    const directory = (await isWholeDirectory(full)) ? dirname(full) : null;
    return assemble(directory, await readHeaders([full], signal));
  }
  if ((await kindOf(join(full, INDEX))) === 'file') return openSharded(full, signal);
  if ((await kindOf(join(full, SINGLE))) === 'file') {
    return assemble(full, await readHeaders([join(full, SINGLE)], signal));
  }
  throw notFound(full, `neither ${INDEX} nor ${SINGLE} in it`, await newestStep(full));
}

/** For who names the folder into which versions are written instead of one of them. */
async function newestStep(directory: string): Promise<string | undefined> {
  const steps = (await readdir(directory).catch(() => []))
    .flatMap((name) => /^step_(\d{1,15})$/.exec(name)?.[1] ?? [])
    .sort((a, b) => Number(b) - Number(a));
  if (steps.length === 0) return undefined;
  return `It holds ${steps.length} folders of versions: name one, such as ${join(directory, `step_${steps[0]}`)}.`;
}

async function openSharded(directory: string, signal: AbortSignal | null): Promise<Checkpoint> {
  const index = await readShardIndex(join(directory, INDEX), signal);
  const names = [...new Set(index.weightMap.values())].sort();
  const kinds = await Promise.all(names.map((name) => kindOf(join(directory, name))));
  const missing = names.filter((_, i) => kinds[i] !== 'file');
  if (missing.length > 0) {
    throw new WeightcastError(
      'WC_CHECKPOINT_SHARD_MISSING',
      `${directory}: the index names ${names.length} shards, of which ${missing.length} are missing: ${some(missing)}`,
      { details: { path: directory, missing } },
    );
  }
  const paths = names.map((name) => join(directory, name));
  const files = await readHeaders(paths, signal);
  await runInSlices(agree(directory, index, files), signal);
  return assemble(directory, files);
}

/** Index and headers must say the same, in both directions. */
function* agree(directory: string, index: ShardIndex, files: readonly SafetensorsFile[]): Steps<void> {
  const seen = new Map<string, string>();
  let total = 0;
  for (const file of files) {
    const name = basename(file.path);
    for (const tensor of file.tensors) {
      const other = seen.get(tensor.name);
      if (other !== undefined) {
        throw invalid(directory, `tensor ${tensor.name} is in two shards, ${other} and ${name}`);
      }
      seen.set(tensor.name, name);
      const mapped = index.weightMap.get(tensor.name);
      if (mapped !== name) {
        const claim = mapped === undefined ? 'the index does not name it' : `the index says ${mapped}`;
        throw invalid(directory, `tensor ${tensor.name} is in ${name}, but ${claim}`);
      }
      total += tensor.range.byteLength;
      if (seen.size % 256 === 0) yield;
    }
  }
  if (seen.size < index.weightMap.size) {
    const absent = [...index.weightMap.keys()].filter((name) => !seen.has(name));
    throw invalid(directory, `the index names ${absent.length} tensors that no shard has: ${some(absent)}`);
  }
  if (index.totalSize !== null && index.totalSize !== total) {
    throw invalid(directory, `the index says ${index.totalSize} bytes in total, the shards have ${total}`);
  }
}

async function readHeaders(paths: readonly string[], signal: AbortSignal | null): Promise<SafetensorsFile[]> {
  const files: SafetensorsFile[] = new Array(paths.length);
  const stop = new AbortController();
  const both = signal === null ? stop.signal : AbortSignal.any([signal, stop.signal]);
  let next = 0;
  const worker = async () => {
    for (let i = next++; i < paths.length; i = next++) {
      files[i] = await readSafetensorsHeader(paths[i] as string, { signal: both });
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(CONCURRENT_HEADERS, paths.length) }, worker));
  } finally {
    stop.abort();
  }
  return files;
}

function assemble(path: string | null, files: readonly SafetensorsFile[]): Checkpoint {
  const tensors = files.flatMap((file) => file.tensors);
  if (tensors.length === 0) {
    throw invalid(files[0]?.path ?? path ?? '', 'there is no tensor in it');
  }
  return {
    path,
    files: files.map(({ path, byteLength, stamp }) => ({ path, byteLength, stamp })),
    tensors,
    byteLength: tensors.reduce((sum, tensor) => sum + tensor.range.byteLength, 0),
    metadata: files[0]?.metadata ?? new Map(),
  };
}

/** An engine that is given the directory loads every .safetensors file in it, or those that the index names. */
async function isWholeDirectory(file: string): Promise<boolean> {
  const entries = await readdir(dirname(file));
  return !entries.includes(INDEX) && entries.filter((name) => name.endsWith('.safetensors')).length === 1;
}

async function kindOf(path: string): Promise<'file' | 'directory' | null> {
  try {
    const status = await stat(path);
    return status.isFile() ? 'file' : status.isDirectory() ? 'directory' : null;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return null;
    throw new WeightcastError('WC_FILE_READ', `${path}: ${(error as Error).message}`, { cause: error });
  }
}

function some(names: readonly string[]): string {
  const shown = names.slice(0, 5).join(', ');
  return names.length > 5 ? `${shown} and ${names.length - 5} more` : shown;
}

function notFound(path: string, message: string, remedy?: string): WeightcastError {
  return new WeightcastError('WC_CHECKPOINT_NOT_FOUND', `${path}: ${message}`, { details: { path }, remedy });
}

function invalid(path: string, message: string): WeightcastError {
  return new WeightcastError('WC_CHECKPOINT_INVALID', `${path}: ${message}`, { details: { path } });
}
