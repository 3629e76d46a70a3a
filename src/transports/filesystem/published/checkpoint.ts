/** A published version as a checkpoint: what its safetensors headers say must be what its manifest says. */
import { basename, join } from 'node:path';
import { type Checkpoint, openCheckpoint } from '../../../weights/checkpoint.js';
import { runInSlices, type Steps } from '../../../weights/yielding.js';
import type { Manifest } from '../manifest.js';
import { corrupt } from './files.js';

/**
 * Opens the tensors of a full version or an adapter.
 *
 * @returns null for a delta, which no engine can load
 * @throws WeightcastError WC_VERSION_CORRUPT, and what openCheckpoint throws
 */
export async function openPublishedCheckpoint(
  folder: string,
  manifest: Manifest,
  signal: AbortSignal | null,
): Promise<Checkpoint | null> {
  if (manifest.kind === 'delta') return null;
  const [shard] = manifest.shards;
  const alone = manifest.kind === 'adapter' && shard !== undefined ? join(folder, shard.name) : folder;
  const opened = await openCheckpoint(alone, { signal: signal ?? undefined });
  await requireAgreement(folder, opened, manifest, signal);
  return { ...opened, path: folder };
}

/** @throws WeightcastError WC_VERSION_CORRUPT */
export async function requireAgreement(
  folder: string,
  checkpoint: Checkpoint,
  manifest: Manifest,
  signal: AbortSignal | null,
): Promise<void> {
  await runInSlices(agree(folder, checkpoint, manifest), signal);
}

function* agree(folder: string, { files, tensors }: Checkpoint, { shards }: Manifest): Steps<void> {
  const named = shards.filter((shard) => shard.tensors.length > 0).map(({ name }) => name);
  const found = new Set(files.map(({ path }) => basename(path)));
  const lacking = named.find((name) => !found.has(name));
  if (lacking !== undefined) throw corrupt(join(folder, lacking), 'a shard that its index does not name');
  const expected = new Map<string, string>();
  for (const shard of shards) {
    for (const { name, dtype, shape, offset, byteLength } of shard.tensors) {
      expected.set(name, JSON.stringify([shard.name, dtype, shape, offset, byteLength]));
      if (expected.size % 256 === 0) yield;
    }
  }
  let same = 0;
  for (const { name, dtype, shape, range } of tensors) {
    if (range.kind !== 'file') continue;
    const facts = [basename(range.path), dtype.name, shape, range.offset, range.byteLength];
    if (expected.get(name) !== JSON.stringify(facts)) {
      throw corrupt(range.path, `tensor ${name} is another one than the manifest says`);
    }
    if (++same % 256 === 0) yield;
  }
  if (same !== expected.size) throw corrupt(folder, `${same} tensors, and the manifest has ${expected.size}`);
}
