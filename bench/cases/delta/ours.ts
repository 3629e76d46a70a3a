/** The product's own jobs over two versions. */
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type EncodeDeltaJob, type EncodedDelta, native } from '#weightcast/native.js';
import type { TensorChanges } from '#weightcast/transports/nccl/wire/sparse.js';
import { diffPairs } from '#weightcast/update/delta/diff.js';
import { Spool } from '#weightcast/update/delta/spool.js';
import type { Checkpoint } from '#weightcast/weights/checkpoint.js';
import type { TensorPair } from '#weightcast/weights/pairs.js';
import { rangesJob } from '#weightcast/weights/ranges-job.js';
import type { FileRange } from '#weightcast/weights/tensor.js';
import { placeOf, type Versions } from './versions.js';

export interface Timed<T> {
  readonly seconds: number;
  readonly result: T;
}

export async function timed<T>(work: () => Promise<T>): Promise<Timed<T>> {
  const began = performance.now();
  const result = await work();
  return { seconds: (performance.now() - began) / 1e3, result };
}

/** The SHA-256 of each tensor, as a push and a publication compute them. */
export function digestsOf({ tensors }: Checkpoint): Promise<Uint8Array> {
  return native().sha256(rangesJob(tensors.map(placeOf)), null).result;
}

function pairsOf({ base, next, pairs }: Versions) {
  const all = [...base.files, ...next.files];
  const files = all.map(({ path }) => path);
  return {
    files,
    fileSizes: Float64Array.from(all, ({ byteLength }) => byteLength),
    baseFile: Uint32Array.from(pairs, ({ base }) => files.indexOf(placeOf(base).path)),
    baseOffset: Float64Array.from(pairs, ({ base }) => placeOf(base).offset),
    newFile: Uint32Array.from(pairs, ({ next }) => files.indexOf(placeOf(next).path)),
    newOffset: Float64Array.from(pairs, ({ next }) => placeOf(next).offset),
    length: Float64Array.from(pairs, ({ next }) => next.range.byteLength),
    elementBytes: Uint8Array.from(pairs, ({ next }) => next.dtype.bits / 8),
    threads: 0,
  };
}

/** The delta at `deltaPath` is another one afterwards. */
export async function encode(versions: Versions, deltaPath: string): Promise<Timed<EncodedDelta>> {
  await rm(deltaPath, { force: true });
  const job: EncodeDeltaJob = { ...pairsOf(versions), deltaPath, codec: 'zstd', sync: false };
  return timed(() => native().encodeDelta(job, null).result);
}

/** Into one file a file of the base, as it is cut; they are given to `check` and removed. @returns the digests of the tensors */
export async function apply(
  versions: Versions,
  deltaPath: string,
  into: string,
  check: (targets: readonly string[]) => Promise<void>,
): Promise<Timed<Uint8Array>> {
  const { base, pairs } = versions;
  const { newFile: _file, newOffset: _offset, ...job } = pairsOf(versions);
  const targets = base.files.map((_, i) => join(into, `applied-${i}`));
  const indexOf = new Map(base.files.map(({ path }, i) => [path, i]));
  const targetHeads = await Promise.all(base.files.map(({ path }) => headOf(path, base)));
  const applied = await timed(
    () =>
      native().applyDelta(
        {
          ...job,
          files: base.files.map(({ path }) => path),
          fileSizes: Float64Array.from(base.files, ({ byteLength }) => byteLength),
          deltaPath,
          targets,
          targetHeads,
          targetSizes: Float64Array.from(base.files, ({ byteLength }) => byteLength),
          target: Uint32Array.from(pairs, ({ base }) => indexOf.get(placeOf(base).path) ?? 0),
          targetOffset: Float64Array.from(pairs, ({ base }) => placeOf(base).offset),
          sync: false,
        },
        null,
      ).result,
  );
  await check(targets);
  await Promise.all(targets.map((path) => rm(path)));
  return applied;
}

/** What lies before the tensors of a file. */
function headOf(path: string, { tensors }: Checkpoint): Promise<Buffer> {
  const offsets = tensors.map(placeOf).flatMap((place) => (place.path === path ? [place.offset] : []));
  return bytesOf({ path, offset: 0, byteLength: Math.min(...offsets) });
}

/** As `push --delta-from` finds what to send: indices and values in a spool. @returns the number of elements that differ */
export async function sparseDiff(
  { base, next, pairs }: Versions,
  { spool: parent, signal }: { readonly spool: string; readonly signal: AbortSignal },
): Promise<Timed<number>> {
  await using spool = await Spool.create(parent);
  const { seconds, result } = await timed(() =>
    diffPairs(pairs, {
      ...{ spool, signal, files: [...base.files, ...next.files], limitBytes: next.byteLength },
      onProgress: () => undefined,
    }),
  );
  for (const [i, pair] of pairs.slice(0, PROVED).entries()) await prove(pair, result.changes[i]);
  return { seconds, result: result.changes.reduce((sum, { updates }) => sum + updates, 0) };
}

/** Of the first so many tensors the changes are put into the old one, which must become the new one. */
const PROVED = 8;

async function prove({ base, next }: TensorPair, change: TensorChanges | undefined): Promise<void> {
  if (change === undefined) throw new Error(`no changes of ${next.name}`);
  const made = await bytesOf(placeOf(base));
  const indices = await bytesOf({ ...change.indices, byteLength: 4 * change.updates });
  const values = await bytesOf({ ...change.values, byteLength: 2 * change.updates });
  for (let i = 0; i < change.updates; i += 1) {
    values.copy(made, 2 * indices.readInt32LE(4 * i), 2 * i, 2 * i + 2);
  }
  if (!made.equals(await bytesOf(placeOf(next)))) throw new Error(`the changes of ${next.name} are wrong`);
}

async function bytesOf({ path, offset, byteLength }: Omit<FileRange, 'kind'>): Promise<Buffer> {
  await using file = await open(path);
  const bytes = Buffer.alloc(byteLength);
  const { bytesRead } = await file.read(bytes, 0, byteLength, offset);
  if (bytesRead !== byteLength) throw new Error(`${path} is too short`);
  return bytes;
}
