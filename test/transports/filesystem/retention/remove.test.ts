/** What becomes of a version that is being removed: its readers, a remover that dies. */
import { mkdir, readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  keptManifest,
  MANIFEST_NAME,
  OWN_FOLDER,
  stepFolder,
} from '../../../../src/transports/filesystem/layout.js';
import { leasedVersions } from '../../../../src/transports/filesystem/lease/live.js';
import { publish } from '../../../../src/transports/filesystem/publish/index.js';
import { encodeOwner, newOwner } from '../../../../src/transports/filesystem/publish/owner.js';
import { sweepLeftovers } from '../../../../src/transports/filesystem/publish/sweep.js';
import { keepManifest, restoreManifest } from '../../../../src/transports/filesystem/publish/undo.js';
import { listPublished, type PublishedEntry } from '../../../../src/transports/filesystem/published/list.js';
import { openPublished } from '../../../../src/transports/filesystem/published/open.js';
import { prune } from '../../../../src/transports/filesystem/retention/prune.js';
import { removeVersion } from '../../../../src/transports/filesystem/retention/remove.js';
import { writeCheckpoint } from '../../../../src/weights/write.js';
import { withDirectory } from '../../../weights/files.js';
import { publishSmall } from '../publication.js';
import { lease, NONCE, NOW, own, publishInPlace, versionsOf } from './support.js';

describe('a reader that comes while its version goes', () => {
  /** Removes a version; `meanwhile` runs when it is no longer where it was, and before leases are looked at again. */
  async function removing(directory: string, version: number, meanwhile: () => Promise<void>) {
    const [entry] = (await listPublished(directory)).filter((each) => each.version === version);
    const leased = async () => {
      await expect(stat(join(stepFolder(directory, version), MANIFEST_NAME))).rejects.toThrow('ENOENT');
      await meanwhile();
      return leasedVersions(directory, 60_000);
    };
    const owner = await newOwner(NONCE, version);
    return removeVersion({ directory, owner, leased }, entry as PublishedEntry);
  }

  const WAYS = [
    ['renamed', publishSmall],
    ['removed in place', publishInPlace],
  ] as const;

  test.each(WAYS)('gets a version back that is %s', (_, publish) =>
    withDirectory(async (directory) => {
      await publish(directory, 1);
      expect(await removing(directory, 1, () => lease(directory, 1))).toBe('leased');
      await using opened = await openPublished(directory, { version: 1 });
      expect(opened.verified).toBe('all');
      expect(await own(directory)).toEqual([]);
      expect(await removing(directory, 1, async () => undefined)).toBe('leased');
    }),
  );

  test('reads the new one where it was published anew meanwhile', () =>
    withDirectory(async (directory) => {
      await publishSmall(directory, 1, { seed: 1 });
      const outcome = await removing(directory, 1, async () => {
        await lease(directory, 1);
        await publishSmall(directory, 1, { seed: 2 });
      });
      expect(outcome).toBe('removed');
      await using opened = await openPublished(directory, { version: 1 });
      expect(opened.verified).toBe('all');
      expect(await own(directory)).toEqual([]);
    }));

  test.each(WAYS)('keeps a version that is %s where nobody can tell whether it is read', (_, publish) =>
    withDirectory(async (directory) => {
      await publish(directory, 1);
      const failing = removing(directory, 1, () => Promise.reject(new Error('EIO')));
      await expect(failing).rejects.toThrow('EIO');
      await using opened = await openPublished(directory, { version: 1 });
      expect(opened.verified).toBe('all');
      expect([
        await own(directory),
        (await readdir(opened.path)).filter((name) => name.includes('owner')),
      ]).toEqual([[], []]);
    }),
  );

  test('does not lose a version that was published after the one that was to go', () =>
    withDirectory(async (directory) => {
      await publishSmall(directory, 1, { seed: 1 });
      const [old] = await listPublished(directory);
      await rm(stepFolder(directory, 1), { recursive: true });
      await publishSmall(directory, 1, { seed: 2 });
      const owner = await newOwner(NONCE, 1);
      const remover = { directory, owner, leased: async () => new Set<number>() };
      expect(await removeVersion(remover, old as PublishedEntry)).toBe('gone');
      expect(await versionsOf(directory)).toEqual([1]);
    }));
});

describe('a removal in place that was killed', () => {
  const DEAD = 'deaddeaddeaddead';

  /** Without its manifest; `isDecided`: its leases were looked at. */
  async function killed(directory: string, version: number, { isDecided = false } = {}): Promise<void> {
    const step = await publishInPlace(directory, version);
    const owner = await newOwner(DEAD, version);
    const text = encodeOwner({ ...owner, holder: { ...owner.holder, startTicks: 1 } });
    await writeFile(join(directory, OWN_FOLDER, `owner-${DEAD}.json`), text);
    await writeFile(join(step, `weightcast-owner-${DEAD}.json`), text);
    const kept = keptManifest(directory, DEAD, version);
    await rename(join(step, MANIFEST_NAME), kept);
    if (isDecided) await rm(kept);
  }

  const NEXT: readonly (readonly [string, (directory: string) => Promise<unknown>])[] = [
    ['publisher', (directory) => sweepLeftovers(directory)],
    ['prune', (directory) => prune(directory, NOW)],
  ];

  test.each(NEXT)('is undone by the next %s where somebody reads the version', (_, next) =>
    withDirectory(async (directory) => {
      await killed(directory, 1);
      await lease(directory, 1);
      await next(directory);
      await using opened = await openPublished(directory, { version: 1 });
      expect(opened.verified).toBe('all');
      expect([
        await own(directory),
        (await readdir(opened.path)).filter((name) => name.includes(DEAD)),
      ]).toEqual([[], []]);
    }),
  );

  test('is told by a dry run as what it becomes', () =>
    withDirectory(async (directory) => {
      await killed(directory, 1);
      const dryRun = { ...NOW, dryRun: true };
      expect((await prune(directory, dryRun)).swept).toEqual([stepFolder(directory, 1)]);
      await lease(directory, 1);
      expect((await prune(directory, dryRun)).swept).toEqual([]);
    }));

  test('is waited for by a reader that comes before it is undone', () =>
    withDirectory(async (directory) => {
      await killed(directory, 1);
      await lease(directory, 1);
      const opening = openPublished(directory, { version: 1 });
      await sweepLeftovers(directory);
      await using opened = await opening;
      expect(opened.version).toBe(1);
    }));

  test('is undone with the age that the version had, by which retention goes', () =>
    withDirectory(async (directory) => {
      await publishInPlace(directory, 1);
      const path = join(stepFolder(directory, 1), MANIFEST_NAME);
      await utimes(path, 1_000_000, 1_000_000);
      const mine = await newOwner(NONCE, 1);
      await keepManifest(directory, mine);
      await rm(path);
      expect(await restoreManifest(directory, mine)).toBe(true);
      expect((await stat(path)).mtimeMs).toBe(1_000_000_000);
    }));

  test('that had nothing more to remove leaves no empty folder', () =>
    withDirectory(async (directory) => {
      await killed(directory, 1, { isDecided: true });
      await rm(stepFolder(directory, 1), { recursive: true });
      await mkdir(stepFolder(directory, 1));
      await sweepLeftovers(directory);
      expect([await readdir(directory), await own(directory)]).toEqual([['.weightcast'], []]);
    }));

  test.each(NEXT)('is undone by the next %s also where somebody died over that', (_, next) =>
    withDirectory(async (directory) => {
      await killed(directory, 1);
      await lease(directory, 1);
      await writeFile(join(stepFolder(directory, 1), MANIFEST_NAME), '{ "format": "weightcast-man');
      await next(directory);
      await using opened = await openPublished(directory, { version: 1 });
      expect(opened.verified).toBe('all');
    }),
  );

  test.each(NEXT)('is finished by the next %s where nobody does', (_, next) =>
    withDirectory(async (directory) => {
      await killed(directory, 1);
      await next(directory);
      expect([await readdir(directory), await own(directory)]).toEqual([['.weightcast'], []]);
    }),
  );

  test.each(NEXT)('is finished by the next %s where the leases had been looked at', (_, next) =>
    withDirectory(async (directory) => {
      await killed(directory, 1, { isDecided: true });
      await lease(directory, 1);
      await next(directory);
      expect([await readdir(directory), await own(directory)]).toEqual([['.weightcast'], []]);
    }),
  );

  test('is not taken over by a publisher of that version under its reader', () =>
    withDirectory(async (directory) => {
      await killed(directory, 1);
      await lease(directory, 1);
      const source = join(directory, 'source');
      await writeCheckpoint(source, [{ name: 'w', dtype: 'BF16', shape: [8] }]);
      const options = { directory, version: 1, commit: 'manifest-last', fsync: false } as const;
      await expect(publish(source, options)).rejects.toMatchObject({ code: 'WC_PUBLISH_EXISTS' });
      await using opened = await openPublished(directory, { version: 1 });
      expect(opened.manifest.publisher.nonce).toBe(NONCE);
    }));
});
