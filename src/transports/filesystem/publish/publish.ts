/** Publishes a version of weights into a directory. */
import { resolve } from 'node:path';
import { WeightcastError } from '../../../errors.js';
import { type NativeWriteStats, native } from '../../../native.js';
import { jobResult } from '../../../native-job.js';
import { runInSlices } from '../../../weights/yielding.js';
import { ANCHOR_EVERY, chooseBase, openDeltaBase } from '../delta/base.js';
import { publishDelta } from '../delta/publish.js';
import { isVersion } from '../layout.js';
import type { Manifest, ManifestFile } from '../manifest.js';
import { listPublished } from '../published/list.js';
import { type DigestedTensor, versionDigestSteps } from '../version-digest.js';
import { cloneShards } from './clone.js';
import { readCompanion, sha256Of } from './companions.js';
import { type CommitMode, type Draft, openDraft } from './draft.js';
import { manifestShards, writeJobSteps } from './job.js';
import { ADAPTER_CONFIG_NAME, ADAPTER_NAME, INDEX_NAME, shardNames } from './names.js';
import { cutOf, DEFAULT_SHARD_BYTES, encodeIndex, planShards, type ShardPlan } from './plan.js';
import { smallFiles } from './small-files.js';
import { type OpenedSource, openSource, type PublishSource } from './source.js';
import { requireSpace } from './space.js';

export interface PublishOptions {
  /** Where versions are published; made when it is not there. */
  readonly directory: string;
  /** A whole number from 0 on; the version's folder is `step_<version>`. */
  readonly version: number;
  /** Default `rename`; `manifest-last` for mounts that can't rename or overwrite. */
  readonly commit?: CommitMode | undefined;
  /** Default true: the version survives a power loss once it is there. */
  readonly fsync?: boolean | undefined;
  /** Default true: a SHA-256 of every tensor, by which readers check what they read. Without, deltas can't be based on it. */
  readonly digests?: boolean | undefined;
  /** Bytes of tensors in one file, at most; default 5 GB, as Hugging Face cuts, or as a published source is cut. An adapter is one file. */
  readonly shardBytes?: number | undefined;
  /** Publish only what changed against the newest version below this one, where there is one; see docs/delta-format.md. Default false. */
  readonly delta?: boolean | undefined;
  /** Where the weights of that version lie, if it is a delta itself. They must have the digests that it was published with. */
  readonly deltaBase?: PublishSource | undefined;
  /** With `delta`: after so many versions one is full, from which readers can start. Default 10. */
  readonly anchorEvery?: number | undefined;
  /** Milliseconds after which what an unreachable publisher has left is swept; default an hour. */
  readonly graceMs?: number | undefined;
  /** Told what is worse than it could be: a delta that can't be compressed. */
  readonly onNote?: ((text: string) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((bytes: number, totalBytes: number) => void) | undefined;
}

/** What was published. */
export interface Publication {
  readonly version: number;
  /** Its folder. */
  readonly path: string;
  readonly manifest: Manifest;
  /** Sizes of all files, bytes, without the manifest. */
  readonly byteLength: number;
  /** Leftovers of dead publishers that were removed: paths. */
  readonly swept: readonly string[];
  /** Of the shards; times of the stages are sums over threads. */
  readonly stats: NativeWriteStats;
}

/**
 * Publishes weights as a version that engines load as it is: safetensors shards with their index, and the small files beside the source. Readers see the
 * version whole or not at all; when this throws, there is none.
 *
 * @example
 * ```ts
 * const { path, manifest } = await publish('/checkpoints/step_1200', { directory: '/shared/policy', version: 1200 });
 * console.log(path, manifest.digest);
 * ```
 *
 * @throws WeightcastError WC_CONFIG_INVALID; those of opening the source; WC_PUBLISH_EXISTS when the version is there or somebody else was first;
 * WC_DELTA_BASE when `deltaBase` is missing or something else; WC_PUBLISH_BUSY when somebody else writes it; WC_PUBLISH_SPACE before anything is written; WC_FILE_WRITE, WC_FILE_READ; WC_CHECKPOINT_CHANGED when
 * somebody wrote to the source; WC_VERSION_CORRUPT when a published source is not what its manifest says; the signal's reason
 */
export async function publish(source: PublishSource, options: PublishOptions): Promise<Publication> {
  const { directory, version, commit = 'rename', fsync = true, digests = true, signal = null } = options;
  requireOptions(version, options.shardBytes ?? DEFAULT_SHARD_BYTES, options.graceMs);
  requireDeltaOptions(options);
  signal?.throwIfAborted();
  await using from = await openSource(source, signal);
  if (options.delta === true && from.kind === 'full') {
    const before = chooseBase(
      version,
      await listPublished(directory, { signal: options.signal }),
      options.anchorEvery ?? ANCHOR_EVERY,
    );
    if (before !== null) {
      await using base = await openDeltaBase(before, options.deltaBase ?? null, signal);
      return await publishDelta(from, base, options);
    }
  }
  const published = from.published?.manifest.shards;
  const shardBytes = options.shardBytes ?? (published === undefined ? DEFAULT_SHARD_BYTES : cutOf(published));
  const limit = from.kind === 'adapter' ? Number.POSITIVE_INFINITY : shardBytes;
  const plan = await runInSlices(planShards(from.tensors, limit), signal);
  await using draft = await openDraft({
    ...{ directory: resolve(directory), version, mode: commit, sync: fsync, graceMs: options.graceMs },
  });
  const names = from.kind === 'adapter' ? [ADAPTER_NAME] : shardNames(plan.shards.length, draft.nameNonce);
  const index = needsIndex(from, names) ? await runInSlices(encodeIndex(plan, names), signal) : null;
  await requireSpace(directory, {
    files: [...plan.shards, ...from.companions]
      .map(({ byteLength }) => byteLength)
      .concat(index?.length ?? 0),
    tensors: from.tensors.length,
  });
  const files = await writeSmallFiles(from, index, draft, signal);
  const { shards, stats } = await writeShards({ from, plan, names, draft }, { fsync, digests, options });
  requireExpected(from, shards);
  await from.requireUnchanged();
  signal?.throwIfAborted();
  const manifest: Manifest = {
    ...{ version, kind: from.kind, base: null, digestAlgorithm: digests ? 'sha256' : 'none' },
    digest: digests ? await runInSlices(digestOf(shards), signal) : null,
    totalBytes: plan.totalBytes,
    created: new Date().toISOString(),
    publisher: draft.publisher,
    ...{ shards, files, tensors: null },
  };
  const path = await draft.commit(manifest);
  const byteLength = [...shards, ...files].reduce((sum, file) => sum + file.byteLength, 0);
  return { version, path, manifest, byteLength, swept: draft.swept, stats };
}

/** Shards that are not called model.safetensors are found by it. */
function needsIndex({ kind }: OpenedSource, names: readonly string[]): boolean {
  return kind === 'full' && names[0] !== 'model.safetensors';
}

/** The index, or an adapter's configuration, comes first: where two publishers write into one folder, it decides. */
async function writeSmallFiles(
  { companions }: OpenedSource,
  index: Buffer | null,
  draft: Draft,
  signal: AbortSignal | null,
): Promise<readonly ManifestFile[]> {
  const { files, write } = smallFiles(draft, signal);
  if (index !== null) await write(INDEX_NAME, index);
  const ordered = [...companions].sort(
    (a, b) => Number(b.name === ADAPTER_CONFIG_NAME) - Number(a.name === ADAPTER_CONFIG_NAME),
  );
  for (const companion of ordered) await write(companion.name, await readCompanion(companion));
  return files;
}

interface Writing {
  readonly from: OpenedSource;
  readonly plan: ShardPlan;
  readonly names: readonly string[];
  readonly draft: Draft;
}

async function writeShards(
  { from, plan, names, draft }: Writing,
  { fsync, digests, options }: { fsync: boolean; digests: boolean; options: PublishOptions },
): Promise<Pick<Manifest, 'shards'> & { readonly stats: NativeWriteStats }> {
  const { signal = null, onProgress } = options;
  const targets = names.map((name) => draft.path(name));
  const cloned =
    from.published === null || !digests
      ? null
      : await cloneShards(from.published, plan.shards, { targets, sync: fsync, signal, onProgress });
  if (cloned !== null) return cloned;
  const job = await runInSlices(
    writeJobSteps(plan.shards, { files: from.files, targets, digest: digests, sync: fsync }),
    signal,
  );
  const totalBytes = plan.shards.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const { digests: bytes, stats } = await jobResult(
    () => native().write(job, onProgress === undefined ? null : (bytes) => onProgress(bytes, totalBytes)),
    signal,
    'WC_FILE_WRITE',
  );
  return { shards: await runInSlices(manifestShards(plan.shards, names, bytes, sha256Of), signal), stats };
}

function* digestOf(shards: Manifest['shards']) {
  return yield* versionDigestSteps(shards.flatMap((shard) => shard.tensors as readonly DigestedTensor[]));
}

function requireExpected({ expected }: OpenedSource, shards: Manifest['shards']): void {
  if (expected.size === 0) return;
  for (const { name, sha256 } of shards.flatMap((shard) => shard.tensors)) {
    const known = expected.get(name);
    if (known === undefined || sha256 === null || known === sha256) continue;
    throw new WeightcastError(
      'WC_VERSION_CORRUPT',
      `tensor ${name} of the source is not what its manifest says`,
      {
        details: { tensor: name, expected: known, found: sha256 },
      },
    );
  }
}

function requireDeltaOptions({ delta = false, digests = true, anchorEvery }: PublishOptions): void {
  const wrong =
    anchorEvery !== undefined && !(Number.isSafeInteger(anchorEvery) && anchorEvery >= 1)
      ? `anchorEvery ${anchorEvery}: a whole number from 1 on is expected`
      : delta && !digests
        ? 'a delta needs digests, by which readers know what it belongs to'
        : null;
  if (wrong !== null) throw new WeightcastError('WC_CONFIG_INVALID', wrong);
}

function requireOptions(version: number, shardBytes: number, graceMs: number | undefined): void {
  const wrong = !isVersion(version)
    ? `version ${version}: a whole number from 0 to ${Number.MAX_SAFE_INTEGER}`
    : !Number.isSafeInteger(shardBytes) || shardBytes < 1
      ? `shardBytes ${shardBytes}: a whole number from 1 on`
      : graceMs !== undefined && !(graceMs >= 0)
        ? `graceMs ${graceMs}: milliseconds from 0 on`
        : null;
  if (wrong !== null) throw new WeightcastError('WC_CONFIG_INVALID', `${wrong} is expected`);
}
