/** What changed between two versions, spooled: in parts of bounded size, so that a delta that is not worth it ends early and the disk is never filled. */
import { WeightcastError } from '../../errors.js';
import { type DiffJob, native } from '../../native.js';
import { jobResult } from '../../native-job.js';
import { INDEX_BYTES, sparseBytes, type TensorChanges } from '../../transports/nccl/wire/sparse.js';
import type { CheckpointFile } from '../../weights/checkpoint.js';
import type { TensorPair } from '../../weights/pairs.js';
import type { FileRange, Tensor } from '../../weights/tensor.js';
import type { Spool } from './spool.js';

const PART_BYTES = 512 * 2 ** 20;
/** Buffers of all threads together. */
const MEMORY_BYTES = 64 * 2 ** 20;

export interface DiffOptions {
  readonly spool: Spool;
  /** Files of both versions. */
  readonly files: readonly CheckpointFile[];
  /** A delta of more bytes is not worth it. */
  readonly limitBytes: number;
  readonly signal: AbortSignal;
  readonly onProgress: (bytes: number) => void;
  /** Bytes of the new version that one part covers; a larger tensor is a part of its own. Default 512 MiB. */
  readonly partBytes?: number;
}

export interface Difference {
  readonly changes: readonly TensorChanges[];
  /** What the changes lie in. */
  readonly files: readonly { readonly path: string; readonly byteLength: number }[];
}

/**
 * Compares all pairs.
 *
 * @throws WeightcastError WC_DELTA_TOO_LARGE as soon as it is, WC_FILE_READ, WC_FILE_WRITE, WC_CHECKPOINT_CHANGED
 */
export async function diffPairs(
  pairs: readonly TensorPair[],
  { spool, files, limitBytes, signal, onProgress, partBytes = PART_BYTES }: DiffOptions,
): Promise<Difference> {
  const changes: TensorChanges[] = [];
  const written: { readonly path: string; readonly byteLength: number }[] = [];
  let compared = 0;
  let bytes = 0;
  for (const [index, part] of partsOf(pairs, partBytes).entries()) {
    signal.throwIfAborted();
    await spool.requireRoom(part.reduce((sum, { next }) => sum + worstBytes(next), 0));
    const paths = { indicesPath: spool.file(`indices-${index}`), valuesPath: spool.file(`values-${index}`) };
    const found = await diffPart(part, {
      ...paths,
      files,
      signal,
      onProgress: (n) => onProgress(compared + n),
    });
    changes.push(...found);
    written.push(
      {
        path: paths.indicesPath,
        byteLength: INDEX_BYTES * found.reduce((sum, { updates }) => sum + updates, 0),
      },
      {
        path: paths.valuesPath,
        byteLength: found.reduce((sum, each) => sum + each.updates * itemBytes(each.tensor), 0),
      },
    );
    compared += part.reduce((sum, { next }) => sum + next.range.byteLength, 0);
    bytes += sparseBytes(found);
    if (bytes >= limitBytes) throw tooLarge(bytes, compared);
  }
  onProgress(compared);
  return { changes, files: written.filter(({ byteLength }) => byteLength > 0) };
}

function partsOf(pairs: readonly TensorPair[], partBytes: number): TensorPair[][] {
  const parts: TensorPair[][] = [];
  let room = 0;
  for (const pair of pairs) {
    const { byteLength } = pair.next.range;
    if (byteLength > room) {
      parts.push([]);
      room = partBytes;
    }
    parts.at(-1)?.push(pair);
    room -= byteLength;
  }
  return parts;
}

interface Part {
  readonly indicesPath: string;
  readonly valuesPath: string;
  readonly files: readonly CheckpointFile[];
  readonly signal: AbortSignal;
  readonly onProgress: (bytes: number) => void;
}

async function diffPart(
  pairs: readonly TensorPair[],
  { indicesPath, valuesPath, files, signal, onProgress }: Part,
): Promise<TensorChanges[]> {
  const indexOf = new Map(files.map(({ path }, index) => [path, index]));
  const place = ({ range }: Tensor): FileRange => {
    if (range.kind !== 'file') throw new Error('a checkpoint lies in files');
    return range;
  };
  const job: DiffJob = {
    files: files.map(({ path }) => path),
    fileSizes: Float64Array.from(files, ({ byteLength }) => byteLength),
    baseFile: Uint32Array.from(pairs, ({ base }) => indexOf.get(place(base).path) ?? 0),
    baseOffset: Float64Array.from(pairs, ({ base }) => place(base).offset),
    newFile: Uint32Array.from(pairs, ({ next }) => indexOf.get(place(next).path) ?? 0),
    newOffset: Float64Array.from(pairs, ({ next }) => place(next).offset),
    length: Float64Array.from(pairs, ({ next }) => next.range.byteLength),
    elementBytes: Uint8Array.from(pairs, ({ next }) => itemBytes(next)),
    threads: 0,
    limit: null,
    indicesPath,
    valuesPath,
    memoryBytes: MEMORY_BYTES,
  };
  const { changed, indicesOffset, valuesOffset } = await jobResult(
    () => native().diff(job, onProgress),
    signal,
    'WC_FILE_READ',
    { phase: 'preflight' },
  );
  return pairs.map(({ next }, i) => ({
    tensor: next,
    updates: changed[i] as number,
    indices: { path: indicesPath, offset: indicesOffset[i] as number },
    values: { path: valuesPath, offset: valuesOffset[i] as number },
  }));
}

/** Types of less than a byte are compared by the byte; a change of theirs can't be sent anyhow. */
function itemBytes({ dtype }: Tensor): number {
  return Math.max(1, dtype.bits / 8);
}

function worstBytes(tensor: Tensor): number {
  return (tensor.range.byteLength / itemBytes(tensor)) * (INDEX_BYTES + itemBytes(tensor));
}

function tooLarge(bytes: number, compared: number): WeightcastError {
  return new WeightcastError(
    'WC_DELTA_TOO_LARGE',
    `the delta is larger than the model: ${bytes} bytes for the first ${compared} bytes of it already`,
    { phase: 'preflight', details: { bytes, compared } },
  );
}
