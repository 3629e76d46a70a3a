/** What prunes that died have left: versions that were renamed away, and neither removed nor put back. */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { WeightcastError } from '../../../errors.js';
import { leftoverFolder, newNonce, OWN_FOLDER, parseLeftover } from '../layout.js';
import { writeNew, writing } from '../publish/durable.js';
import { type Clock, encodeOwner, isLeftOver, newOwner, type Owner, readOwner } from '../publish/owner.js';
import { type Remover, removeTrash, restoreTrash } from './remove.js';

const REMOVER = /^remover-([0-9a-f]{16})\.json$/;

function removerPath(directory: string, nonce: string): string {
  return join(directory, OWN_FOLDER, `remover-${nonce}.json`);
}

/** For who only looks. */
export async function withoutFile<T>(_: string, work: (owner: Owner) => Promise<T>): Promise<T> {
  return work(await newOwner(newNonce(), 0));
}

/** Removing is what makes room. Without the file others go by the age of what they find. */
function unlessFull(error: unknown): void {
  const { errnoName } = (error as WeightcastError).details;
  if (errnoName !== 'ENOSPC' && errnoName !== 'EDQUOT') throw error;
}

/** Says that this process removes versions, for as long as `work` lasts. */
export async function asRemover<T>(directory: string, work: (owner: Owner) => Promise<T>): Promise<T> {
  const owner = await newOwner(newNonce(), 0);
  const path = removerPath(directory, owner.nonce);
  try {
    await writing(path, writeNew(path, encodeOwner(owner), false)).catch(unlessFull);
    return await work(owner);
  } finally {
    await rm(path, { force: true });
  }
}

/**
 * Removes what is left over; puts back what somebody has a lease on.
 *
 * @returns the paths of what was removed, or would be
 */
export async function sweepTrash(
  directory: string,
  { leased, clock, dryRun }: Pick<Remover, 'leased'> & { readonly clock: Clock; readonly dryRun: boolean },
): Promise<readonly string[]> {
  const names = await readdir(join(directory, OWN_FOLDER));
  const dead = new Map<string, boolean>();
  const isDead = async (nonce: string, paths: readonly string[]): Promise<boolean> => {
    const known = dead.get(nonce);
    if (known !== undefined) return known;
    const path = removerPath(directory, nonce);
    const found = await isLeftOver(await readOwner(path), [path, ...paths], clock);
    dead.set(nonce, found);
    return found;
  };
  const removed: string[] = [];
  for (const name of names) {
    const leftover = parseLeftover(name);
    if (leftover?.kind !== 'trash') continue;
    const path = leftoverFolder(directory, leftover);
    if (!(await isDead(leftover.nonce, [path]))) continue;
    const isLeased = (await leased()).has(leftover.version);
    if (isLeased && (dryRun || (await restoreTrash(path, directory, leftover.version)))) continue;
    removed.push(path);
    if (!dryRun) await removeTrash(path);
  }
  for (const name of names) {
    const nonce = REMOVER.exec(name)?.[1];
    if (nonce === undefined || dryRun || !(await isDead(nonce, []))) continue;
    await rm(removerPath(directory, nonce), { force: true });
  }
  return removed;
}
