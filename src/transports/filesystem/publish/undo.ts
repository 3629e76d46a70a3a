/**
 * A version that is removed where nothing can be renamed: its manifest goes first, and is kept aside until it is known that nobody reads the version. Who
 * finds that the remover died in between looks at the leases in his place.
 */
import { open, rm, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { byOwnClock } from '../clock.js';
import { keptManifest, MANIFEST_NAME, stepFolder } from '../layout.js';
import { leasedVersions } from '../lease/live.js';
import { LEASE_TTL_MS } from '../lease/place.js';
import { MAX_MANIFEST_BYTES } from '../manifest.js';
import { syncFolder, writeNew } from './durable.js';
import { END_OF_MANIFEST, isPublished, isThere } from './exists.js';
import type { Owner } from './owner.js';

type Removing = Pick<Owner, 'nonce' | 'version'>;

/** Before the manifest goes. @throws the system's errors; ENOENT when it has gone */
export async function keepManifest(directory: string, { nonce, version }: Removing): Promise<void> {
  const kept = keptManifest(directory, nonce, version);
  const { bytes, mtime } = await readBounded(join(stepFolder(directory, version), MANIFEST_NAME));
  await writeNew(kept, bytes, true);
  await writtenAt(kept, mtime);
}

/** Makes it a version again. @returns false where nothing was kept, or not to its end. @throws the system's errors */
export async function restoreManifest(directory: string, { nonce, version }: Removing): Promise<boolean> {
  const found = await readBounded(keptManifest(directory, nonce, version)).catch(() => null);
  if (found === null) return false;
  const { bytes, mtime } = found;
  if (!bytes.subarray(-END_OF_MANIFEST.length).equals(Buffer.from(END_OF_MANIFEST))) return false;
  const step = stepFolder(directory, version);
  if (await isPublished(step)) return true;
  const path = join(step, MANIFEST_NAME);
  // Of who died while he did this.
  await rm(path, { force: true });
  try {
    await writeNew(path, bytes, true);
    await writtenAt(path, mtime);
    await syncFolder(step);
  } catch (error) {
    await rm(path, { force: true }).catch(() => undefined);
    throw error;
  }
  return true;
}

/**
 * Decides in the place of removers with these nonces, that died before they did. Only for who is alone in the version's folder.
 *
 * @returns true: somebody reads it, and it is a version again; else it never will be
 */
export async function restoreIfLeased(
  directory: string,
  version: number,
  nonces: readonly string[],
): Promise<boolean> {
  for (const nonce of nonces) {
    const kept = keptManifest(directory, nonce, version);
    if (!(await isThere(kept))) continue;
    const isLeased = (await leasedVersions(directory, LEASE_TTL_MS)).has(version);
    if (isLeased && (await restoreManifest(directory, { nonce, version }))) return true;
    // Before any file goes: who dies over that must leave nothing that makes half of it a version.
    await rm(kept, { force: true });
  }
  return false;
}

/** Whether {@link restoreIfLeased} would do that for this remover, as far as this machine's clock can tell. Writes nothing. */
export async function wouldRestore(directory: string, { nonce, version }: Removing): Promise<boolean> {
  if (!(await isThere(keptManifest(directory, nonce, version)))) return false;
  return (await leasedVersions(directory, LEASE_TTL_MS, byOwnClock)).has(version);
}

/** Its age counts for retention. Where no time can be set it counts as new, and stays longer. */
async function writtenAt(path: string, mtime: Date): Promise<void> {
  await utimes(path, mtime, mtime).catch(() => undefined);
}

async function readBounded(path: string): Promise<{ readonly bytes: Buffer; readonly mtime: Date }> {
  await using file = await open(path, 'r');
  const { size, mtime } = await file.stat();
  if (size > MAX_MANIFEST_BYTES) throw new RangeError(`${path}: more than ${MAX_MANIFEST_BYTES} bytes`);
  return { bytes: await file.readFile(), mtime };
}
