/**
 * Shards of the version before that a delta leaves just as they are. They are not written again: the file system is asked to share their blocks, or, in the
 * same publication directory, the file gets a second name. There both files are this owner's, and no published file is ever written to again.
 */
import { basename, dirname, join } from 'node:path';
import { hasCode, WeightcastError } from '../../../errors.js';
import type { ManifestShard, ManifestTensor } from '../manifest.js';
import { sha256Of } from '../publish/companions.js';
import { syncFile, writing } from '../publish/durable.js';
import type { ShardPlan } from '../publish/plan.js';
import { shareFile } from '../publish/share-file.js';
import { digestedRanges, requireDigests } from '../published/digests.js';
import type { VersionInFolder } from './apply.js';
import { byName } from './pairs.js';

export interface Sharing {
  readonly base: VersionInFolder;
  /** Of the result. */
  readonly tensors: readonly ManifestTensor[];
  readonly plan: ShardPlan;
  /** Where each shard of the plan goes. */
  readonly targets: readonly string[];
  /** Where the result is published. */
  readonly directory: string;
  readonly sync: boolean;
  readonly signal: AbortSignal | null;
  readonly onProgress: (bytes: number) => void;
}

/**
 * Puts them into their places, and holds their bytes against their digests there.
 *
 * @returns which of the plan's shards are there now; the others are to be written
 * @throws WeightcastError WC_VERSION_CORRUPT when the base is not what its manifest says; WC_FILE_WRITE, WC_FILE_READ; the signal's reason
 */
export async function shareUnchanged(sharing: Sharing): Promise<ReadonlySet<number>> {
  const { base, tensors, plan, targets, directory, sync, signal } = sharing;
  const shared = new Map<number, ManifestShard>();
  // A link to somebody else's file would have his owner and his rights, and he may write to it.
  const mayLink = dirname(base.path) === directory;
  for (const [index, shard] of unchangedShards(plan, base.manifest.shards, tensors)) {
    signal?.throwIfAborted();
    const target = targets[index] as string;
    // What can't be shared once can't be shared at all.
    if (!(await shareFile(join(base.path, shard.name), target, { mayLink }))) break;
    shared.set(index, { ...shard, name: basename(target) });
    if (sync) await writing(target, syncFile(target));
  }
  if (shared.size > 0) await requireShared(sharing, [...shared.values()]);
  return new Set(shared.keys());
}

/** By the plan's numbers, the shards of the base that have the same header, which says where each tensor lies, and the same bytes. */
export function unchangedShards(
  { shards }: ShardPlan,
  before: readonly ManifestShard[],
  tensors: readonly ManifestTensor[],
): ReadonlyMap<number, ManifestShard> {
  const now = byName(tensors);
  const same = before.filter((shard) =>
    shard.tensors.every(({ name, sha256 }) => sha256 !== null && now.get(name)?.sha256 === sha256),
  );
  const byHeader = new Map(same.map((shard) => [shard.headerSha256, shard]));
  return new Map(
    shards.flatMap(({ header, byteLength }, index) => {
      const shard = byHeader.get(sha256Of(header));
      return shard?.byteLength === byteLength ? [[index, shard] as const] : [];
    }),
  );
}

async function requireShared(
  { base, targets, signal, onProgress }: Sharing,
  shards: readonly ManifestShard[],
): Promise<void> {
  const ranges = digestedRanges({ ...base.manifest, shards, files: [] }, 'all');
  await requireDigests(dirname(targets[0] as string), ranges, { signal, onProgress }).catch(
    (error: unknown) => {
      if (!hasCode(error, 'WC_VERSION_CORRUPT')) throw error;
      throw new WeightcastError(
        'WC_VERSION_CORRUPT',
        `${base.path}, which the delta starts from, is not what its manifest says: ${error.message}`,
        { cause: error, details: { ...error.details, path: base.path } },
      );
    },
  );
}
