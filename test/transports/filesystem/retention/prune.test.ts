import { mkdir, readdir, readFile, rename, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { MANIFEST_NAME, OWN_FOLDER, stepFolder } from '../../../../src/transports/filesystem/layout.js';
import { leaseFolder } from '../../../../src/transports/filesystem/lease/place.js';
import { encodeOwner, newOwner } from '../../../../src/transports/filesystem/publish/owner.js';
import { openPublished } from '../../../../src/transports/filesystem/published/open.js';
import { prune } from '../../../../src/transports/filesystem/retention/prune.js';
import { withDirectory } from '../../../weights/files.js';
import { publishDelta } from '../publication.js';
import { NONCE, NOW, own, published, publishInPlace, versionsOf } from './support.js';

describe('prune', () => {
  test('removes what nothing keeps, and leaves nothing else behind', () =>
    withDirectory(async (directory) => {
      await published(directory, 1, 2, 3, 4, 10);
      const said: number[] = [];
      const report = await prune(directory, {
        ...NOW,
        keepEvery: 2,
        onRemoved: (version) => said.push(version),
      });
      expect(report.kept).toEqual([
        { version: 10, reason: 'newest' },
        { version: 4, reason: 'newest' },
        { version: 2, reason: 'every' },
      ]);
      expect(report.removed.map(({ version }) => version)).toEqual([1, 3]);
      expect(report.removed[0]?.bytes).toBeGreaterThan(3000);
      expect(said).toEqual([1, 3]);
      expect(await versionsOf(directory)).toEqual([2, 4, 10]);
      expect((await readdir(directory)).sort()).toEqual(['.weightcast', 'step_10', 'step_2', 'step_4']);
      expect(await own(directory)).toEqual([]);
    }));

  test('keeps what is younger than a minute unless told otherwise', () =>
    withDirectory(async (directory) => {
      await published(directory, 1, 2, 3);
      expect(await prune(directory)).toMatchObject({
        removed: [],
        kept: [{}, {}, { version: 1, reason: 'young' }],
      });
    }));

  test('only says what would go when asked to', () =>
    withDirectory(async (directory) => {
      await published(directory, 1, 2, 3);
      const report = await prune(directory, { ...NOW, dryRun: true });
      expect(report).toMatchObject({ dryRun: true, removed: [{ version: 1 }] });
      expect(await versionsOf(directory)).toEqual([1, 2, 3]);
      expect(await own(directory)).toEqual([]);
    }));

  test('writes nothing when it only says what would go, also where nobody has read yet', () =>
    withDirectory(async (directory) => {
      await published(directory, 1, 2, 3);
      await writeFile(join(directory, OWN_FOLDER, 'owner-00112233445566ff.json'), '');
      const places = ['.', OWN_FOLDER, leaseFolder('.')].map((name) => join(directory, name));
      const times = () =>
        Promise.all(
          places.map((path) =>
            stat(path).then(
              (found) => found.mtimeMs,
              () => null,
            ),
          ),
        );
      for (const hasReader of [false, true]) {
        if (hasReader) await (await openPublished(directory, { version: 1 })).close();
        const before = await times();
        expect((await prune(directory, { ...NOW, dryRun: true })).removed).toMatchObject([{ version: 1 }]);
        expect([await times(), before[2] !== null]).toEqual([before, hasReader]);
      }
    }));

  test('leaves a version that somebody reads, until he is done', () =>
    withDirectory(async (directory) => {
      await published(directory, 1, 2, 3);
      const reader = await openPublished(directory, { version: 1 });
      expect((await prune(directory, NOW)).kept).toContainEqual({ version: 1, reason: 'leased' });
      await readFile(reader.checkpoint?.files[0]?.path as string);
      await reader.close();
      expect((await prune(directory, NOW)).removed).toMatchObject([{ version: 1 }]);
    }));

  test('leaves what it did not publish, and says so', () =>
    withDirectory(async (directory) => {
      await published(directory, 1, 2, 3, 4, 5);
      await rm(join(stepFolder(directory, 1), MANIFEST_NAME));
      await writeFile(join(stepFolder(directory, 2), 'optimizer.pt'), 'mine');
      await mkdir(join(directory, 'elsewhere'));
      await symlink(join(directory, 'elsewhere'), stepFolder(directory, 0));
      await writeFile(join(directory, 'step_7'), 'a file');
      const report = await prune(directory, NOW);
      expect(report.removed.map(({ version }) => version)).toEqual([3]);
      expect(report.untouched.map(({ path }) => path).sort()).toEqual(
        [0, 1, 2, 7].map((version) => stepFolder(directory, version)),
      );
      expect(report.untouched.find(({ path }) => path.endsWith('_2'))?.reason).toContain('optimizer.pt');
      for (const version of [0, 1, 2, 7]) await stat(stepFolder(directory, version));
    }));

  test('makes nothing in a directory that is not a publication', () =>
    withDirectory(async (directory) => {
      await mkdir(join(directory, 'step_1'));
      await writeFile(join(directory, 'step_1', 'STABLE'), '');
      expect((await prune(directory, NOW)).removed).toEqual([]);
      expect(await readdir(directory)).toEqual(['step_1']);
      await expect(prune(join(directory, 'absent'))).resolves.toMatchObject({ removed: [] });
    }));

  test('keeps the chain of a delta that stays, also of one that holds what is not ours', () =>
    withDirectory(async (directory) => {
      await published(directory, 1);
      for (const version of [2, 3]) await publishDelta(directory, version);
      await published(directory, 10);
      for (const version of [11, 12, 13]) await publishDelta(directory, version);
      await writeFile(join(stepFolder(directory, 2), 'notes'), 'mine');
      const report = await prune(directory, NOW);
      expect(report.removed.map(({ version }) => version)).toEqual([3]);
      expect(report.kept).toEqual([
        { version: 13, reason: 'newest' },
        { version: 12, reason: 'newest' },
        { version: 11, reason: 'base' },
        { version: 10, reason: 'base' },
        { version: 1, reason: 'base' },
      ]);
    }));

  test('removes without a rename where publishers do not rename, and sweeps nothing of theirs', () =>
    withDirectory(async (directory) => {
      const step = await publishInPlace(directory, 1);
      await writeFile(
        join(step, 'model-0123456789abcdef-00001-of-00001.safetensors'),
        'of one that came second',
      );
      await published(directory, 2, 3);
      expect((await prune(directory, NOW)).removed).toMatchObject([{ version: 1 }]);
      expect((await readdir(directory)).sort()).toEqual(['.weightcast', 'step_2', 'step_3']);
      expect(await own(directory)).toEqual([]);
    }));

  test.each([{ keep: 1 }, { keep: 2.5 }, { keepEvery: 0 }, { graceMs: -1 }, { graceMs: Number.NaN }])(
    'refuses %o',
    async (options) => {
      await expect(prune('/nowhere', options)).rejects.toMatchObject({ code: 'WC_CONFIG_INVALID' });
    },
  );

  test('stops by the signal', () =>
    withDirectory(async (directory) => {
      await published(directory, 1, 2, 3, 4);
      const stop = new AbortController();
      const onRemoved = () => stop.abort(new Error('enough'));
      await expect(prune(directory, { ...NOW, signal: stop.signal, onRemoved })).rejects.toThrow('enough');
      expect(await versionsOf(directory)).toEqual([2, 3, 4]);
      expect(await own(directory)).toEqual([]);
    }));

  test('by several at once removes each version once and harms nothing', () =>
    withDirectory(async (directory) => {
      await published(directory, ...Array.from({ length: 20 }, (_, i) => i));
      const reports = await Promise.all(Array.from({ length: 4 }, () => prune(directory, NOW)));
      const removed = reports.flatMap((report) => report.removed.map(({ version }) => version));
      expect(removed.sort((a, b) => a - b)).toEqual(Array.from({ length: 18 }, (_, i) => i));
      expect(await versionsOf(directory)).toEqual([18, 19]);
      expect(await own(directory)).toEqual([]);
    }));
});

describe('what a prune that was killed has left', () => {
  const trashOf = (directory: string, version: number) =>
    join(directory, OWN_FOLDER, `trash-${NONCE}-step_${version}`);

  async function renamedAway(directory: string, version: number): Promise<string> {
    await rename(stepFolder(directory, version), trashOf(directory, version));
    const path = join(directory, OWN_FOLDER, `remover-${NONCE}.json`);
    const owner = await newOwner(NONCE, 0);
    await writeFile(path, encodeOwner({ ...owner, holder: { ...owner.holder, startTicks: 1 } }));
    return path;
  }

  test('is removed', () =>
    withDirectory(async (directory) => {
      await published(directory, 1, 2, 3);
      await renamedAway(directory, 1);
      expect((await prune(directory, { ...NOW, dryRun: true })).swept).toEqual([trashOf(directory, 1)]);
      expect((await prune(directory, NOW)).swept).toEqual([trashOf(directory, 1)]);
      expect(await own(directory)).toEqual([]);
      expect(await versionsOf(directory)).toEqual([2, 3]);
    }));

  test('is put back when somebody reads it', () =>
    withDirectory(async (directory) => {
      await published(directory, 1, 2, 3);
      const reader = await openPublished(directory, { version: 1 });
      await renamedAway(directory, 1);
      expect((await prune(directory, NOW)).swept).toEqual([]);
      expect(await versionsOf(directory)).toEqual([1, 2, 3]);
      expect(await own(directory)).toEqual([]);
      await reader.close();
    }));

  test('is removed all the same when it is half removed', () =>
    withDirectory(async (directory) => {
      await published(directory, 1, 2, 3);
      const reader = await openPublished(directory, { version: 1 });
      await renamedAway(directory, 1);
      await rm(join(trashOf(directory, 1), MANIFEST_NAME));
      expect((await prune(directory, NOW)).swept).toEqual([trashOf(directory, 1)]);
      await reader.close();
    }));

  test('of a process that may still be at it is left until it is old', () =>
    withDirectory(async (directory) => {
      await published(directory, 1, 2, 3);
      const remover = await renamedAway(directory, 1);
      const owner = await newOwner(NONCE, 0);
      await writeFile(
        remover,
        encodeOwner({ ...owner, holder: { ...owner.holder, host: 'other', bootId: 'other' } }),
      );
      expect((await prune(directory, NOW)).swept).toEqual([]);
      const old = new Date(Date.now() - 7_200_000);
      for (const path of [remover, trashOf(directory, 1)]) await utimes(path, old, old);
      for (const name of await readdir(trashOf(directory, 1)))
        await utimes(join(trashOf(directory, 1), name), old, old);
      expect((await prune(directory, NOW)).swept).toEqual([trashOf(directory, 1)]);
    }));
});
