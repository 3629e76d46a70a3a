import { randomUUID } from 'node:crypto';
import { mkdir, readdir, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { type Lease, takeLease } from '../../../src/transports/filesystem/lease/lease.js';
import { leasedVersions, sweepLeases } from '../../../src/transports/filesystem/lease/live.js';
import { leasedVersion, leaseFolder } from '../../../src/transports/filesystem/lease/place.js';
import { withDirectory } from '../../weights/files.js';

const LONG_MS = 3_600_000;
const there = { ttlMs: LONG_MS, stillThere: async () => true };

async function onlyLease(directory: string): Promise<string> {
  const names = (await readdir(leaseFolder(directory))).filter((name) => leasedVersion(name) !== null);
  expect(names).toHaveLength(1);
  return join(leaseFolder(directory), names[0] as string);
}

/** As if nobody had renewed it for so long. */
async function age(path: string, ms: number): Promise<void> {
  const then = new Date(Date.now() - ms);
  await utimes(path, then, then);
}

const lost = (lease: Lease) =>
  new Promise<Error>((resolve) => {
    const told = () => resolve(lease.lost.reason as Error);
    if (lease.lost.aborted) told();
    else lease.lost.addEventListener('abort', told, { once: true });
  });

describe('a lease', () => {
  test('holds its version until it is closed, twice if need be, and leaves nothing', () =>
    withDirectory(async (directory) => {
      const lease = await takeLease(directory, 7, there);
      const other = await takeLease(directory, 7, there);
      expect(await leasedVersions(directory, LONG_MS)).toEqual(new Set([7]));
      await lease.close();
      await lease.close();
      expect(await leasedVersions(directory, LONG_MS)).toEqual(new Set([7]));
      await other.close();
      expect(await leasedVersions(directory, LONG_MS)).toEqual(new Set());
      expect(await readdir(leaseFolder(directory))).toEqual([]);
    }));

  test('is dead when it was not renewed for its time to live, and swept long after', () =>
    withDirectory(async (directory) => {
      await using lease = await takeLease(directory, 7, there);
      const path = await onlyLease(directory);
      await age(path, 61_000);
      expect(await leasedVersions(directory, 60_000)).toEqual(new Set());
      expect(await leasedVersions(directory, 62_000 + 600_000)).toEqual(new Set([7]));
      await sweepLeases(directory, 60_000);
      await stat(path);
      await age(path, 601_000);
      await sweepLeases(directory, 60_000);
      await expect(stat(path)).rejects.toThrow('ENOENT');
      expect(lease.lost.aborted).toBe(false);
    }));

  test("is renewed by the file system's clock, whatever the one here says", () =>
    withDirectory(async (directory) => {
      await using _ = await takeLease(directory, 7, { ...there, ttlMs: 300 });
      const path = await onlyLease(directory);
      await age(path, 10_000_000);
      await vi.waitFor(async () =>
        expect((await stat(path)).mtimeMs).toBeGreaterThan(Date.now() - 5_000_000),
      );
    }));

  test('that was swept lies there anew while its version does', () =>
    withDirectory(async (directory) => {
      await using lease = await takeLease(directory, 7, { ttlMs: 300, stillThere: async () => true });
      await rm(await onlyLease(directory));
      await vi.waitFor(() => onlyLease(directory));
      expect(lease.lost.aborted).toBe(false);
    }));

  test('whose version went away meanwhile says so', () =>
    withDirectory(async (directory) => {
      await using lease = await takeLease(directory, 7, { ttlMs: 300, stillThere: async () => false });
      await rm(await onlyLease(directory));
      expect(await lost(lease)).toMatchObject({ code: 'WC_VERSION_NOT_FOUND' });
    }));

  test('that can no longer be written says so once it is dead', () =>
    withDirectory(async (directory) => {
      await using lease = await takeLease(directory, 7, { ttlMs: 300, stillThere: async () => true });
      await rm(leaseFolder(directory), { recursive: true });
      await writeFile(leaseFolder(directory), 'in the way');
      expect(await lost(lease)).toMatchObject({ code: 'WC_VERSION_NOT_FOUND' });
    }));

  test('is refused where the directory takes none', () =>
    withDirectory(async (directory) => {
      await writeFile(join(directory, '.weightcast'), 'in the way');
      await expect(takeLease(directory, 7, there)).rejects.toMatchObject({ code: 'WC_FILE_WRITE' });
      // No folder can be made there, and what is tried must end.
      await expect(takeLease('/proc/policy', 7, there)).rejects.toMatchObject({
        ...{ code: 'WC_FILE_WRITE', details: { errnoName: 'ENOENT' } },
      });
    }));
});

test('what somebody asked for the time with, and died, is swept too', () =>
  withDirectory(async (directory) => {
    await mkdir(leaseFolder(directory), { recursive: true });
    const probes = [randomUUID(), randomUUID()].map((id) =>
      join(leaseFolder(directory), `.weightcast-${id}`),
    );
    for (const path of probes) await writeFile(path, '');
    await age(probes[0] as string, 601_000);
    expect(await leasedVersions(directory, LONG_MS)).toEqual(new Set());
    await sweepLeases(directory, 60_000);
    await expect(stat(probes[0] as string)).rejects.toThrow('ENOENT');
    await stat(probes[1] as string);
  }));

test('names of others in the folder hold nothing', () =>
  withDirectory(async (directory) => {
    await mkdir(leaseFolder(directory), { recursive: true });
    for (const name of [
      'step_7.json',
      'step_07.0123456789abcdef.json',
      'step_9007199254740992.0123456789abcdef.json',
      'step_-1.0123456789abcdef.json',
      'notes',
    ]) {
      await writeFile(join(leaseFolder(directory), name), '{}');
    }
    expect(await leasedVersions(directory, LONG_MS)).toEqual(new Set());
    await writeFile(join(leaseFolder(directory), 'step_9007199254740991.0123456789abcdef.json'), '');
    expect(await leasedVersions(directory, LONG_MS)).toEqual(new Set([Number.MAX_SAFE_INTEGER]));
  }));
