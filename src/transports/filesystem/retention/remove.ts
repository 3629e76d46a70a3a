/** Removes one version so that nobody who has opened it loses it. */
import { readdir, rename, rm, rmdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  keptManifest,
  leftoverFolder,
  MANIFEST_NAME,
  nonceOfStepOwner,
  OWN_FOLDER,
  ownerName,
  stepFolder,
  stepOwnerName,
} from '../layout.js';
import { type Manifest, readManifest } from '../manifest.js';
import { MARKERS } from '../prime-rl/markers.js';
import { writeNew } from '../publish/durable.js';
import { encodeOwner, type Owner } from '../publish/owner.js';
import { keepManifest, restoreManifest } from '../publish/undo.js';
import { filesOfManifest, isGone } from '../published/files.js';
import type { PublishedEntry } from '../published/list.js';

/** Of a publisher that came second where nothing can be renamed, and died: the manifest that is there does not know it. */
const OTHERS_SHARD = /^model-[0-9a-f]{16}-\d{5}-of-\d{5}\.safetensors$/;

export interface Remover {
  /** The publication directory. */
  readonly directory: string;
  /** Who removes: others tell by it whether what they find is left over. */
  readonly owner: Owner;
  /** The versions that somebody reads now: looked at anew each time. */
  readonly leased: () => Promise<ReadonlySet<number>>;
}

/** leased: somebody took a lease meanwhile, and it is as it was · gone: somebody else removed or replaced it */
export type Removal = 'removed' | 'leased' | 'gone';

/** Files in a version's folder that its publisher did not write, which nobody may take away with it. */
export async function foreignFiles({ path, manifest }: PublishedEntry): Promise<readonly string[]> {
  const known = new Set<string>([
    ...filesOfManifest(manifest).map(({ name }) => name),
    ...MARKERS,
    MANIFEST_NAME,
  ]);
  // Also what an NFS client calls a file that is open and was removed.
  const passes = (name: string) => name.startsWith('.nfs') || isOwnersFile(name) || OTHERS_SHARD.test(name);
  return (await readdir(path)).filter((name) => !known.has(name) && !passes(name));
}

/** @throws the system's errors */
export async function removeVersion(remover: Remover, entry: PublishedEntry): Promise<Removal> {
  return isManifestLast(entry.manifest) ? removeInPlace(remover, entry) : renameAway(remover, entry);
}

/** Where nothing can be renamed, the publisher's nonce is in the names of the shards. */
function isManifestLast({ shards, files, publisher }: Manifest): boolean {
  return [...shards, ...files].some(({ name }) => name.includes(publisher.nonce));
}

/** The version's folder gets another name; then leases are looked at again: a reader writes his before he reads the manifest, so one of both sees the other. */
async function renameAway({ directory, owner, leased }: Remover, entry: PublishedEntry): Promise<Removal> {
  const { version, path } = entry;
  const trash = leftoverFolder(directory, { kind: 'trash', nonce: owner.nonce, version });
  if (!(await moved(path, trash))) return 'gone';
  try {
    const isOther = !(await isSame(trash, entry));
    if (isOther || (await leased()).has(version)) {
      // Where somebody published that version anew, its readers read the new one.
      if (await moved(trash, path)) return isOther ? 'gone' : 'leased';
    }
  } catch (error) {
    // Nobody knows who reads it.
    await moved(trash, path);
    throw error;
  }
  await removeTrash(trash);
  return 'removed';
}

/** Without its manifest first: what remains of a removal that was killed can't be taken for a version. */
export async function removeTrash(trash: string): Promise<void> {
  await rm(join(trash, MANIFEST_NAME), { force: true });
  await rm(trash, { recursive: true, force: true, maxRetries: 3 });
}

/** Puts back what a killed prune had renamed away, if it is still whole. @returns false when it is not, or somebody published it anew */
export async function restoreTrash(trash: string, directory: string, version: number): Promise<boolean> {
  const isWhole = await stat(join(trash, MANIFEST_NAME)).then(
    () => true,
    () => false,
  );
  return isWhole && (await moved(trash, stepFolder(directory, version)));
}

/** @returns false when it is not there, or something else has the new name */
async function moved(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    const taken = ['EEXIST', 'ENOTEMPTY'].includes(String((error as NodeJS.ErrnoException).code));
    if (taken || isGone(error)) return false;
    throw error;
  }
}

async function removeInPlace({ directory, owner, leased }: Remover, entry: PublishedEntry): Promise<Removal> {
  const { version, path } = entry;
  const mine = { ...owner, version };
  // As a publisher that is at work: if this process dies, what remains is left over, and swept.
  const owners = [join(directory, OWN_FOLDER, ownerName(mine.nonce)), join(path, stepOwnerName(mine.nonce))];
  const kept = keptManifest(directory, mine.nonce, version);
  let state: 'whole' | 'without manifest' | 'half' = 'whole';
  try {
    for (const place of owners) await writeNew(place, encodeOwner(mine), false);
    if (!(await isSame(path, entry))) return 'gone';
    await keepManifest(directory, mine);
    await rm(join(path, MANIFEST_NAME));
    state = 'without manifest';
    if ((await leased()).has(version)) return 'leased';
    // The decision: from here on nobody brings it back.
    await rm(kept);
    state = 'half';
    const foreign = new Set(await foreignFiles(entry));
    // Markers first: nobody is sent to a folder that is not whole.
    const names = (await readdir(path)).filter((name) => !foreign.has(name) && !isOwnersFile(name));
    for (const name of [...MARKERS, ...names]) await rm(join(path, name), { force: true });
    state = 'whole';
    return 'removed';
  } catch (error) {
    if (state === 'whole' && isGone(error)) return 'gone';
    throw error;
  } finally {
    if (state === 'without manifest' && (await restoreManifest(directory, mine))) state = 'whole';
    // Whose it is must be known while it is neither a version nor gone.
    if (state === 'whole') {
      const [central, inStep] = owners as [string, string];
      for (const place of [kept, inStep]) await rm(place, { force: true });
      await removeIfEmpty(path);
      await rm(central, { force: true });
    }
  }
}

function isOwnersFile(name: string): boolean {
  return nonceOfStepOwner(name) !== null;
}

async function removeIfEmpty(folder: string): Promise<void> {
  const names = await readdir(folder).catch(() => ['unknown']);
  if (names.length === 0) await rmdir(folder).catch(() => undefined);
}

/** False when somebody removed that version and published it anew since it was listed. */
async function isSame(folder: string, { manifest, version }: PublishedEntry): Promise<boolean> {
  const now = await readManifest(folder, { version }).catch(() => null);
  return now !== null && now.publisher.nonce === manifest.publisher.nonce && now.created === manifest.created;
}
