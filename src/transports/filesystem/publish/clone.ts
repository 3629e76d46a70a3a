/**
 * Shards of a published version that are to lie somewhere else just as they are. A file system that can share blocks between files (btrfs, XFS, bcachefs)
 * is asked to, so that nothing is written; what is there then is hashed. On all others the bytes are written, and hashed as they pass.
 *
 * No hard links: a link is the publisher's very file. Published files are never written again by weightcast, but whoever can write to the shared directory
 * could, and would change what engines have mapped from their own copy, unseen by everybody; owner and permissions would be the publisher's, too.
 */
import { rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { NativeWriteStats } from '../../../native.js';
import type { Manifest, ManifestShard } from '../manifest.js';
import { digestedRanges, requireDigests } from '../published/digests.js';
import { sha256Of } from './companions.js';
import { syncFile, writing } from './durable.js';
import type { PlannedShard } from './plan.js';
import { shareFile } from './share-file.js';

export interface CloneOptions {
  /** Where each shard goes: to be created. */
  readonly targets: readonly string[];
  readonly sync: boolean;
  readonly signal: AbortSignal | null;
  readonly onProgress?: ((bytes: number, totalBytes: number) => void) | undefined;
}

export interface Cloned {
  readonly shards: readonly ManifestShard[];
  readonly stats: NativeWriteStats;
}

/**
 * @returns null where this can't be done, and nothing was left behind: another layout, no digests, a file system that does not share
 * @throws WeightcastError WC_VERSION_CORRUPT when the bytes are not what the manifest says; WC_FILE_WRITE; the signal's reason
 */
export async function cloneShards(
  { path, manifest }: { readonly path: string; readonly manifest: Manifest },
  planned: readonly PlannedShard[],
  { targets, sync, signal, onProgress }: CloneOptions,
): Promise<Cloned | null> {
  if (manifest.digestAlgorithm === 'none' || !sameLayout(manifest.shards, planned)) return null;
  const began = performance.now();
  const sources = manifest.shards.map(({ name }) => join(path, name));
  if (!(await shared(sources, targets, signal))) return null;
  const [first = ''] = targets;
  const shards = manifest.shards.map((shard, i) => ({ ...shard, name: basename(targets[i] as string) }));
  const ranges = digestedRanges({ ...manifest, shards, files: [] }, 'all');
  await requireDigests(dirname(first), ranges, { signal, onProgress });
  if (sync) for (const target of targets) await writing(target, syncFile(target));
  const bytes = shards.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const elapsedMs = performance.now() - began;
  return {
    shards,
    stats: { targets: targets.length, bytes, elapsedMs, readMs: 0, hashMs: 0, writeMs: 0, syncMs: 0 },
  };
}

/** The header says where every tensor lies. */
function sameLayout(shards: readonly ManifestShard[], planned: readonly PlannedShard[]): boolean {
  return (
    shards.length === planned.length &&
    planned.every(({ header, byteLength }, i) => {
      return shards[i]?.byteLength === byteLength && shards[i]?.headerSha256 === sha256Of(header);
    })
  );
}

async function shared(
  sources: readonly string[],
  targets: readonly string[],
  signal: AbortSignal | null,
): Promise<boolean> {
  const made: string[] = [];
  for (const [i, target] of targets.entries()) {
    signal?.throwIfAborted();
    if (await shareFile(sources[i] as string, target, { mayLink: false })) {
      made.push(target);
      continue;
    }
    for (const path of made) await writing(path, rm(path));
    return false;
  }
  return true;
}
