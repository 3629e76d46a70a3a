/** Makes a full version of a delta and the version that it is based on. */
import { join, resolve } from 'node:path';
import { WeightcastError } from '../../../errors.js';
import { type ApplyDeltaJob, NO_BASE, NO_TARGET, native } from '../../../native.js';
import { digestAt, jobResult } from '../../../native-job.js';
import { DTYPES, type DType } from '../../../weights/dtype.js';
import type { Tensor } from '../../../weights/tensor.js';
import { runInSlices } from '../../../weights/yielding.js';
import { type Manifest, type ManifestFile, type ManifestTensor, readManifest } from '../manifest.js';
import { isCompanion, readCompanion, sha256Of } from '../publish/companions.js';
import { type Draft, openDraft } from '../publish/draft.js';
import { manifestShards } from '../publish/job.js';
import { INDEX_NAME, shardNames } from '../publish/names.js';
import { cutOf, encodeIndex, planShards, type ShardPlan } from '../publish/plan.js';
import type { Publication } from '../publish/publish.js';
import { smallFiles } from '../publish/small-files.js';
import { requireSpace } from '../publish/space.js';
import { versionDigestSteps } from '../version-digest.js';
import { deltaFileOf } from './names.js';
import { baseOf, byName, elementBytesOf } from './pairs.js';
import { shareUnchanged } from './unchanged.js';

/** A version that is held: `openPublished` gives one. */
export interface VersionInFolder {
  readonly path: string;
  readonly manifest: Manifest;
}

export interface ApplyDeltaOptions {
  /** Publication directory that takes the result, as `step_<version>`, in full. */
  readonly into: string;
  readonly version: number;
  /** Default true. */
  readonly fsync?: boolean | undefined;
  /** Bytes of tensors in one file, at most; default: as the base is cut, so that shards of which nothing changed need not be written again. */
  readonly shardBytes?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((bytes: number, totalBytes: number) => void) | undefined;
}

/**
 * Applies a delta: publishes into a directory, in full, what `delta` makes of `base`. Every tensor is held against the digest that the delta's manifest has
 * of it, and nothing appears in the directory unless all of them agree. `base` is only read; files of it that stay as they are get a second name in the
 * result where the file system can't share blocks and both lie in one publication directory.
 *
 * @throws WeightcastError WC_DELTA_BASE when the delta belongs to other weights than `base`; WC_DELTA_INVALID; WC_VERSION_CORRUPT when a result is not what
 * was published; WC_ZSTD_NOT_FOUND; WC_PUBLISH_EXISTS, WC_PUBLISH_SPACE, WC_FILE_WRITE, WC_FILE_READ; the signal's reason
 */
export async function applyDelta(
  delta: VersionInFolder,
  base: VersionInFolder,
  options: ApplyDeltaOptions,
): Promise<Publication> {
  const { into, version, fsync = true, signal = null, onProgress } = options;
  const tensors = requireBase(delta.manifest, base.manifest);
  const directory = resolve(into);
  const shardBytes = options.shardBytes ?? cutOf(base.manifest.shards);
  const plan = await runInSlices(planShards(tensors.map(asPlanned), shardBytes), signal);
  await using draft = await openDraft({ directory, version, mode: 'rename', sync: fsync });
  const names = shardNames(plan.shards.length, draft.nameNonce);
  const index = names[0] === 'model.safetensors' ? null : await runInSlices(encodeIndex(plan, names), signal);
  const started = performance.now();
  const targets = names.map((name) => draft.path(name));
  let sharedBytes = 0;
  const shared = await shareUnchanged({
    ...{ base, tensors, plan, targets, directory, sync: fsync, signal },
    onProgress: (bytes) => {
      // Headers are hashed, too.
      sharedBytes = Math.min(bytes, plan.totalBytes);
      onProgress?.(sharedBytes, plan.totalBytes);
    },
  });
  const left = plan.shards.filter((_, i) => !shared.has(i));
  await requireSpace(directory, {
    files: [...left.map(({ byteLength }) => byteLength), index?.length ?? 0],
    tensors: tensors.length,
  });
  const { files, write } = smallFiles(draft, signal);
  if (index !== null) await write(INDEX_NAME, index);
  for (const file of companionsOf(delta, base)) await write(file.name, await readCompanion(file));
  if (left.length > 0) {
    const job = applyJob({
      delta,
      base,
      tensors,
      shards: left,
      targets: targets.filter((_, i) => !shared.has(i)),
      fsync,
    });
    const tell = (bytes: number) =>
      onProgress?.(Math.min(sharedBytes + bytes, plan.totalBytes), plan.totalBytes);
    const digests = await jobResult(() => native().applyDelta(job, tell), signal, 'WC_FILE_WRITE');
    requireDigests(delta, tensors, { digests, target: job.target });
  }
  const elapsedMs = performance.now() - started;
  // What still lies at the base's place now is what was read.
  await requireSameBase(base, signal);
  // Awaited here: the draft would be disposed of under it.
  return await committed({ delta, draft, plan, names, files, tensors, elapsedMs }, signal);
}

/** The tensors of the result. @throws WeightcastError WC_DELTA_BASE, WC_DELTA_INVALID */
function requireBase(delta: Manifest, base: Manifest): readonly ManifestTensor[] {
  if (delta.kind !== 'delta' || delta.base === null || delta.tensors === null) {
    throw new WeightcastError('WC_DELTA_INVALID', `step_${delta.version} is no delta`);
  }
  if (base.kind !== 'full' || base.digest !== delta.base.digest) {
    throw new WeightcastError(
      'WC_DELTA_BASE',
      `step_${delta.version} is a delta of step_${delta.base.version} (${delta.base.digest.slice(0, 12)}…), not of what is held as ` +
        `step_${base.version} (${base.digest?.slice(0, 12) ?? 'no digest'}…)`,
      { details: { version: delta.version, base: delta.base, found: base.digest } },
    );
  }
  return delta.tensors;
}

async function requireSameBase(base: VersionInFolder, signal: AbortSignal | null): Promise<void> {
  const now = await readManifest(base.path, { version: base.manifest.version, signal });
  if (now.digest === base.manifest.digest) return;
  throw new WeightcastError('WC_DELTA_BASE', `${base.path} became another version while it was read`);
}

/** For the plan, which looks at names, dtypes and sizes only. */
function asPlanned({ name, dtype, shape, byteLength }: ManifestTensor): Tensor {
  const known = DTYPES.get(dtype);
  if (known === undefined)
    throw new WeightcastError('WC_DELTA_INVALID', `tensor ${name}: unknown dtype ${dtype}`);
  return { name, dtype: known as DType, shape, range: { kind: 'file', path: '', offset: 0, byteLength } };
}

/** Those of the base, but where the delta has others. */
function companionsOf(delta: VersionInFolder, base: VersionInFolder) {
  const found = new Map<string, ManifestFile & { readonly path: string }>();
  for (const { path, manifest } of [base, delta]) {
    for (const file of manifest.files) {
      if (isCompanion(file.name)) found.set(file.name, { ...file, path: join(path, file.name) });
    }
  }
  return [...found.values()];
}

interface Applying {
  readonly delta: VersionInFolder;
  readonly base: VersionInFolder;
  readonly tensors: readonly ManifestTensor[];
  /** Those to write; tensors of others are there. */
  readonly shards: ShardPlan['shards'];
  /** Where each of them goes. */
  readonly targets: readonly string[];
  readonly fsync: boolean;
}

function applyJob({ delta, base, tensors, shards, targets, fsync }: Applying): ApplyDeltaJob {
  const old = base.manifest.shards;
  const before = byName(old.flatMap((shard, file) => shard.tensors.map((tensor) => ({ ...tensor, file }))));
  const places = new Map(
    shards.flatMap((shard, target) =>
      shard.tensors.map(({ tensor, offset }) => [tensor.name, { target, offset }] as const),
    ),
  );
  const bases = tensors.map((tensor) => baseOf(tensor, before));
  return {
    files: old.map(({ name }) => join(base.path, name)),
    fileSizes: Float64Array.from(old, ({ byteLength }) => byteLength),
    baseFile: Uint32Array.from(bases, (tensor) => tensor?.file ?? NO_BASE),
    baseOffset: Float64Array.from(bases, (tensor) => tensor?.offset ?? 0),
    length: Float64Array.from(tensors, ({ byteLength }) => byteLength),
    elementBytes: Uint8Array.from(tensors, ({ dtype }) => elementBytesOf(dtype)),
    deltaPath: join(delta.path, deltaFileOf(delta.manifest).name),
    targets,
    targetHeads: shards.map(({ header }) => header),
    targetSizes: Float64Array.from(shards, ({ byteLength }) => byteLength),
    target: Uint32Array.from(tensors, ({ name }) => places.get(name)?.target ?? NO_TARGET),
    targetOffset: Float64Array.from(tensors, ({ name }) => places.get(name)?.offset ?? 0),
    sync: fsync,
    threads: 0,
  };
}

function requireDigests(
  { path }: VersionInFolder,
  tensors: readonly ManifestTensor[],
  { digests, target }: { readonly digests: Uint8Array; readonly target: Uint32Array },
): void {
  for (const [i, { name, sha256 }] of tensors.entries()) {
    if (target[i] === NO_TARGET) continue;
    const found = digestAt(digests, i);
    if (found === sha256) continue;
    throw new WeightcastError(
      'WC_VERSION_CORRUPT',
      `${path}: applied to its base, it gives another tensor ${name} than was published`,
      { details: { path, tensor: name, expected: sha256, found } },
    );
  }
}

interface Made {
  readonly delta: VersionInFolder;
  readonly draft: Draft;
  readonly plan: ShardPlan;
  readonly names: readonly string[];
  readonly files: readonly ManifestFile[];
  readonly tensors: readonly ManifestTensor[];
  readonly elapsedMs: number;
}

async function committed(made: Made, signal: AbortSignal | null): Promise<Publication> {
  const { delta, draft, plan, names, files, tensors, elapsedMs } = made;
  const known = byName(tensors);
  const unhashed = await runInSlices(manifestShards(plan.shards, names, new Uint8Array(), sha256Of), signal);
  const shards = unhashed.map((shard) => ({
    ...shard,
    tensors: shard.tensors.map((each) => ({ ...each, sha256: known.get(each.name)?.sha256 ?? null })),
  }));
  const digested = tensors.map((tensor) => ({ ...tensor, sha256: tensor.sha256 ?? '' }));
  const digest = await runInSlices(versionDigestSteps(digested), signal);
  if (digest !== delta.manifest.digest) {
    throw new WeightcastError('WC_DELTA_INVALID', `${delta.path}: its digest is not that of its tensors`);
  }
  signal?.throwIfAborted();
  const manifest: Manifest = {
    ...{ version: delta.manifest.version, kind: 'full', base: null, digestAlgorithm: 'sha256', digest },
    totalBytes: plan.totalBytes,
    created: new Date().toISOString(),
    publisher: draft.publisher,
    ...{ shards, files, tensors: null },
  };
  const path = await draft.commit(manifest);
  const byteLength = [...shards, ...files].reduce((sum, file) => sum + file.byteLength, 0);
  const stats = {
    ...{ targets: shards.length, bytes: byteLength, elapsedMs },
    ...{ readMs: 0, hashMs: 0, writeMs: 0, syncMs: 0 },
  };
  return { version: manifest.version, path, manifest, byteLength, swept: draft.swept, stats };
}
