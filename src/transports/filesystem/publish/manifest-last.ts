/**
 * A version whose files are written where they stay, for mounts that can't rename or overwrite. Who has written the manifest has published: it is created
 * exclusively. Before that, a file in the folder says who is writing, and the first of several wins.
 */
import { readdir, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { WeightcastError } from '../../../errors.js';
import {
  MANIFEST_NAME,
  nonceOfStepOwner,
  OWN_FOLDER,
  ownerName,
  stepFolder,
  stepOwnerName,
} from '../layout.js';
import { writeManifest } from '../manifest.js';
import type { Draft, DraftPlace } from './draft.js';
import { codeOf, makeFolder, syncFolder, writeNew, writing } from './durable.js';
import { existsError, isPublished } from './exists.js';
import { mark } from './marker.js';
import { clockOf, encodeOwner, isLeftOver, mtimeMs, type Owner, readOwner } from './owner.js';
import { restoreIfLeased } from './undo.js';

export async function openManifestLast(place: DraftPlace): Promise<Draft> {
  const { directory, version, owner, publisher, swept, sync } = place;
  const step = stepFolder(directory, version);
  await enterStep(directory, owner, place.graceMs);
  try {
    if (sync) await writing(directory, syncFolder(directory));
  } catch (error) {
    await leaveStep(step, owner, []);
    throw error;
  }
  const created: string[] = [];
  let committed = false;
  return {
    publisher,
    swept,
    nameNonce: owner.nonce,
    path(name) {
      created.push(name);
      return join(step, name);
    },
    async write(name, bytes) {
      const path = join(step, name);
      try {
        await writeNew(path, bytes, sync);
        created.push(name);
      } catch (error) {
        if (codeOf(error) === 'EEXIST') throw await takenError(step, error);
        created.push(name);
        await writing(path, Promise.reject(error));
      }
    },
    async commit(manifest) {
      if (sync) await writing(step, syncFolder(step));
      const path = join(step, MANIFEST_NAME);
      try {
        await writeManifest(step, manifest, { sync });
      } catch (error) {
        if (codeOf(error) === 'EEXIST') throw await existsError(step, error);
        await rm(path, { force: true }).catch(() => undefined);
        await writing(path, Promise.reject(error));
      }
      try {
        if (sync) await writing(step, syncFolder(step));
        await writing(step, mark(step, manifest.kind, sync));
      } catch (error) {
        await rm(path, { force: true }).catch(() => undefined);
        created.push('STABLE');
        throw error;
      }
      committed = true;
      await rm(join(step, stepOwnerName(owner.nonce)), { force: true }).catch(() => undefined);
      return step;
    },
    async [Symbol.asyncDispose]() {
      if (!committed) await leaveStep(step, owner, created);
    },
  };
}

/**
 * Goes into a version's folder as its writer, and removes what dead ones left in it; what one of them was about to remove, and somebody reads, comes back.
 *
 * @throws WeightcastError WC_PUBLISH_EXISTS, WC_PUBLISH_BUSY when somebody else came first, WC_FILE_WRITE
 */
export async function enterStep(directory: string, owner: Owner, graceMs: number): Promise<void> {
  const step = stepFolder(directory, owner.version);
  const mine = stepOwnerName(owner.nonce);
  const sayWhoIsThere = async () => {
    await makeFolder(step, false);
    await writeNew(join(step, mine), encodeOwner(owner), false);
  };
  try {
    const again = async (error: unknown) => {
      if (codeOf(error) === 'ENOTDIR') throw await existsError(step, error);
      if (codeOf(error) !== 'ENOENT') throw error;
      // Whoever leaves takes an empty folder with him.
      await sayWhoIsThere();
    };
    await writing(step, sayWhoIsThere().catch(again));
    const names = (await readdir(step)).filter((name) => name !== mine);
    if (await isPublished(step)) throw await existsError(step);
    const owners = names.filter((name) => nonceOfStepOwner(name) !== null);
    if (names.length > 0 && owners.length === 0) throw await existsError(step);
    const clock = await clockOf(directory, graceMs, owner.holder);
    const paths = names.map((name) => join(step, name));
    const alive: string[] = [];
    for (const name of owners) {
      if (!(await isLeftOver(await ownerOf(directory, step, name), paths, clock))) alive.push(name);
    }
    for (const name of alive) if (await cameFirst(step, name, mine)) throw busyError(step);
    // Somebody who came later may write a file of the same name once this one has seen that and given up: nothing is removed under him.
    if (alive.length > 0) return;
    const nonces = owners.flatMap((name) => nonceOfStepOwner(name) ?? []);
    if (await restoreIfLeased(directory, owner.version, nonces)) throw await existsError(step);
    await removeAll(
      step,
      names.filter((name) => !owners.includes(name)),
    );
    await removeAll(step, owners);
  } catch (error) {
    await leaveStep(step, owner, []);
    throw error;
  }
}

/** It may have died before it had written the file here. */
async function ownerOf(directory: string, step: string, name: string): Promise<Owner | null> {
  const central = join(directory, OWN_FOLDER, ownerName(nonceOfStepOwner(name) ?? ''));
  return (await readOwner(join(step, name))) ?? (await readOwner(central));
}

/** Takes away what this owner wrote, and the folder when nothing else is in it. */
export async function leaveStep(step: string, owner: Owner, created: readonly string[]): Promise<void> {
  try {
    await removeAll(step, created);
    await rm(join(step, stepOwnerName(owner.nonce)), { force: true });
    await rmdir(step);
  } catch {
    // Not empty: somebody else's. Or it can't be removed: swept later.
  }
}

async function removeAll(step: string, names: readonly string[]): Promise<void> {
  for (const name of names) await rm(join(step, name), { recursive: true, force: true });
}

/** By the file system's clock; in the same tick, by name. */
async function cameFirst(step: string, other: string, mine: string): Promise<boolean> {
  const [theirs, ours] = await Promise.all([other, mine].map((name) => mtimeMs(join(step, name))));
  if (theirs === 0) return false;
  return theirs !== ours ? (theirs as number) < (ours as number) : other < mine;
}

async function takenError(step: string, cause: unknown): Promise<WeightcastError> {
  return (await isPublished(step)) ? existsError(step, cause) : busyError(step, cause);
}

function busyError(step: string, cause?: unknown): WeightcastError {
  return new WeightcastError('WC_PUBLISH_BUSY', `another publisher writes ${step}`, {
    cause,
    details: { path: step },
  });
}
