/** Which versions somebody reads now: retention's side of the leases. */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { askedOfFileSystem, isProbe, type TimeIn } from '../clock.js';
import { modifiedMs } from '../prime-rl/layout.js';
import { isGone } from '../published/files.js';
import { leasedVersion, leaseFolder } from './place.js';

/** Dead leases lie there for so many times to live: a reader that was stopped for a moment finds its own again. */
const SWEEP_AFTER = 10;

interface Found {
  readonly path: string;
  /** Null: a file that asked for the time. */
  readonly version: number | null;
  /** Milliseconds since its last renewal, by the file system's clock. */
  readonly ageMs: number;
}

/**
 * The versions with a live lease, as of now: the file that tells the file system's time is written into the folder of the leases first, which also makes an NFS
 * client forget what it believed to be in it.
 */
export async function leasedVersions(
  directory: string,
  ttlMs: number,
  timeIn: TimeIn = askedOfFileSystem,
): Promise<ReadonlySet<number>> {
  const found = await listLeases(directory, timeIn);
  return new Set(found.flatMap(({ version, ageMs }) => (version !== null && ageMs < ttlMs ? [version] : [])));
}

/** Removes what readers that died have left, and who asked for the time. */
export async function sweepLeases(directory: string, ttlMs: number): Promise<void> {
  const dead = (await listLeases(directory, askedOfFileSystem)).filter(
    ({ ageMs }) => ageMs > SWEEP_AFTER * ttlMs,
  );
  await Promise.all(dead.map(({ path }) => rm(path, { force: true })));
}

async function listLeases(directory: string, timeIn: TimeIn): Promise<readonly Found[]> {
  const folder = leaseFolder(directory);
  const nowMs = await timeIn(folder);
  const names = await readdir(folder).catch((error: unknown) => {
    if (isGone(error)) return [];
    throw error;
  });
  const found = await Promise.all(
    names.map(async (name): Promise<readonly Found[]> => {
      const version = leasedVersion(name);
      if (version === null && !isProbe(name)) return [];
      const path = join(folder, name);
      const renewedMs = await modifiedMs(path);
      return renewedMs === null ? [] : [{ path, version, ageMs: nowMs - renewedMs }];
    }),
  );
  return found.flat();
}
