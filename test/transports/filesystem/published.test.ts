import {
  appendFile,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { stepFolder } from '../../../src/transports/filesystem/layout.js';
import { leasedVersions } from '../../../src/transports/filesystem/lease/live.js';
import { leaseFolder } from '../../../src/transports/filesystem/lease/place.js';
import { listPublished } from '../../../src/transports/filesystem/published/list.js';
import {
  type OpenPublishedOptions,
  openPublished,
} from '../../../src/transports/filesystem/published/open.js';
import { withDirectory } from '../../weights/files.js';
import { hashOf, manifestFor, publishDelta, publishSmall } from './publication.js';

/** Turns one byte of a file round. */
async function flip(path: string, offset: number): Promise<void> {
  await using file = await open(path, 'r+');
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, offset);
  await file.write(Buffer.from([(buffer[0] as number) ^ 1]), 0, 1, offset);
}

const refusal = (directory: string, options: OpenPublishedOptions = {}) =>
  openPublished(directory, options).then(
    async (opened) => {
      await opened.close();
      return { code: 'none', message: 'it was opened' };
    },
    (error: { code: string; message: string }) => error,
  );

describe('a version that is whole', () => {
  test('is opened with its tensors and digests, held while it is open, and let go', () =>
    withDirectory(async (directory) => {
      const step = await publishSmall(directory, 3);
      const opened = await openPublished(directory);
      expect(opened).toMatchObject({ version: 3, path: step, verified: 'all' });
      expect(opened.checkpoint?.path).toBe(step);
      expect(opened.checkpoint?.files).toHaveLength(2);
      for (const { name, range } of opened.checkpoint?.tensors ?? []) {
        if (range.kind !== 'file') throw new Error('not in a file');
        const bytes = (await readFile(range.path)).subarray(range.offset, range.offset + range.byteLength);
        const said = opened.manifest.shards
          .flatMap(({ tensors }) => tensors)
          .find((one) => one.name === name);
        expect(said?.sha256).toBe(hashOf(bytes));
      }
      expect(await leasedVersions(directory, 60_000)).toEqual(new Set([3]));
      expect(opened.lost.aborted).toBe(false);
      await opened.close();
      await opened.close();
      expect(await leasedVersions(directory, 60_000)).toEqual(new Set());
    }));

  test('is the newest, the newest from a number on, or the one that is asked for', () =>
    withDirectory(async (directory) => {
      for (const version of [1, 2, 10]) await publishSmall(directory, version);
      const versionOf = async (version: OpenPublishedOptions['version']) => {
        await using opened = await openPublished(directory, { version });
        return opened.version;
      };
      expect(await versionOf('latest')).toBe(10);
      expect(await versionOf({ atLeast: 2 })).toBe(10);
      expect(await versionOf(2)).toBe(2);
      expect((await listPublished(directory)).map(({ version }) => version)).toEqual([10, 2, 1]);
    }));

  test('may be an adapter', () =>
    withDirectory(async (directory) => {
      const step = await publishSmall(directory, 4, { kind: 'adapter' });
      await using opened = await openPublished(directory);
      expect(opened.checkpoint).toMatchObject({ path: step });
      expect(opened.checkpoint?.tensors).toHaveLength(4);
    }));

  test('may be a delta, where deltas are asked for: it has no checkpoint', () =>
    withDirectory(async (directory) => {
      await publishSmall(directory, 4);
      await publishDelta(directory, 5);
      await using full = await openPublished(directory);
      expect(full.version).toBe(4);
      await using delta = await openPublished(directory, { deltas: true });
      expect(delta).toMatchObject({ version: 5, checkpoint: null });
      await using chosen = await openPublished(directory, { version: 5 });
      expect(chosen.checkpoint).toBeNull();
    }));

  test('is read without a lease where none is wanted', () =>
    withDirectory(async (directory) => {
      await publishSmall(directory, 3);
      await rm(join(directory, '.weightcast'), { recursive: true });
      await using _ = await openPublished(directory, { lease: false });
      expect(await readdir(directory)).toEqual(['step_3']);
    }));

  test('without digests is opened by its sizes, and by nothing that it does not have', () =>
    withDirectory(async (directory) => {
      await publishSmall(directory, 3, {
        edit: (manifest) => ({
          ...manifest,
          ...{ digestAlgorithm: 'none', digest: null },
          shards: manifest.shards.map((shard) => ({
            ...shard,
            tensors: shard.tensors.map((tensor) => ({ ...tensor, sha256: null })),
          })),
        }),
      });
      await using opened = await openPublished(directory);
      expect(opened.verified).toBe('sizes');
      expect(await refusal(directory, { verify: 'all' })).toMatchObject({ code: 'WC_CONFIG_INVALID' });
    }));
});

describe('waiting', () => {
  test('ends when the version appears, also in a directory that was not there', () =>
    withDirectory(async (parent) => {
      const directory = join(parent, 'later');
      const opening = openPublished(directory, { version: { atLeast: 6 }, waitMs: 60_000 });
      await mkdir(directory);
      await publishSmall(directory, 5);
      await publishSmall(directory, 7);
      await using opened = await opening;
      expect(opened.version).toBe(7);
    }));

  test('ends at the deadline by name, and leaves no lease', () =>
    withDirectory(async (directory) => {
      await publishSmall(directory, 5);
      expect(await refusal(directory, { version: { atLeast: 6 }, waitMs: 50 })).toMatchObject({
        code: 'WC_VERSION_NOT_FOUND',
      });
      expect(await refusal(directory, { version: 6 })).toMatchObject({ code: 'WC_VERSION_NOT_FOUND' });
      expect(await refusal(join(directory, 'absent'))).toMatchObject({ code: 'WC_VERSION_NOT_FOUND' });
      expect(await leasedVersions(directory, 60_000)).toEqual(new Set());
    }));

  test('ends by the signal', () =>
    withDirectory(async (directory) => {
      const stop = new AbortController();
      const opening = openPublished(directory, { waitMs: 600_000, signal: stop.signal });
      stop.abort(new Error('enough'));
      await expect(opening).rejects.toThrow('enough');
    }));

  test('is over when a file that a cache did not show appears', () =>
    withDirectory(async (directory) => {
      const step = await publishSmall(directory, 5);
      await rename(join(step, 'config.json'), join(directory, 'aside'));
      const opening = openPublished(directory, { waitMs: 60_000 });
      // Made by the first look.
      await expect.poll(() => readdir(leaseFolder(directory)).catch(() => null)).not.toBeNull();
      await rename(join(directory, 'aside'), join(step, 'config.json'));
      await using opened = await opening;
      expect(opened.version).toBe(5);
    }));

  test('looks again for a moment, unasked, while retention has renamed the folder away', () =>
    withDirectory(async (directory) => {
      const step = await publishSmall(directory, 5);
      const trash = join(directory, '.weightcast', 'trash-0123456789abcdef-step_5');
      await rename(step, trash);
      const opening = openPublished(directory, { version: 5 });
      await rename(trash, step);
      await using opened = await opening;
      expect(opened.version).toBe(5);
    }));
});

describe('what is refused', () => {
  test('a version that is no whole number', () =>
    withDirectory(async (directory) => {
      for (const version of [-1, 1.5, Number.NaN, { atLeast: -3 }]) {
        expect(await refusal(directory, { version })).toMatchObject({ code: 'WC_CONFIG_INVALID' });
      }
    }));

  test.each(['all', 'sample'] as const)('a byte that was changed (%s)', (verify) =>
    withDirectory(async (directory) => {
      // Eight of its tensors are a sample: all of them.
      const step = await publishSmall(directory, 5);
      const { shards } = await manifestFor(step, 5);
      for (const { name, byteLength } of shards) {
        for (const at of [3, byteLength - 1]) {
          await flip(join(step, name), at);
          expect(await refusal(directory, { verify }), `${name} ${at}`).toMatchObject({
            code: 'WC_VERSION_CORRUPT',
          });
          await flip(join(step, name), at);
        }
      }
      await flip(join(step, 'config.json'), 0);
      expect(await refusal(directory, { verify })).toMatchObject({ code: 'WC_VERSION_CORRUPT' });
      await flip(join(step, 'config.json'), 0);
      expect(await refusal(directory, { verify })).toMatchObject({ code: 'none' });
      expect(await leasedVersions(directory, 60_000)).toEqual(new Set());
    }),
  );

  test('a digest that is wrong at once, whatever the deadline', () =>
    withDirectory(async (directory) => {
      const step = await publishSmall(directory, 5);
      await flip(join(step, 'config.json'), 0);
      expect(await refusal(directory, { waitMs: 3_600_000 })).toMatchObject({ code: 'WC_VERSION_CORRUPT' });
    }));

  test('files that are longer, shorter, absent, links or no files', () =>
    withDirectory(async (directory) => {
      const step = await publishSmall(directory, 5);
      const shard = join(step, 'model-00001-of-00002.safetensors');
      const bytes = await readFile(shard);
      const sizes = { verify: 'sizes' } as const;
      const refused = async (what: RegExp) => {
        const { code, message } = await refusal(directory, sizes);
        expect({ code, message }).toEqual({
          code: 'WC_VERSION_CORRUPT',
          message: expect.stringMatching(what),
        });
      };
      await truncate(shard, bytes.length - 1);
      await refused(/bytes, and the manifest says/);
      await writeFile(shard, bytes);
      await appendFile(shard, 'x');
      await refused(/bytes, and the manifest says/);
      await rm(shard);
      await refused(/not there/);
      await writeFile(join(directory, 'elsewhere'), bytes);
      await symlink(join(directory, 'elsewhere'), shard);
      await refused(/symbolic link/);
      await rm(shard);
      await mkdir(shard);
      await refused(/not a regular file/);
      await rm(shard, { recursive: true });
      await writeFile(shard, bytes);
      expect(await refusal(directory, sizes)).toMatchObject({ code: 'none' });
    }));

  test('a folder or a manifest that is a symbolic link', () =>
    withDirectory(async (directory) => {
      const step = await publishSmall(directory, 5);
      await rename(step, join(directory, 'real'));
      await symlink(join(directory, 'real'), step);
      expect(await refusal(directory, { version: 5 })).toMatchObject({ code: 'WC_VERSION_CORRUPT' });
      expect(await listPublished(directory)).toEqual([]);
      await rm(step);
      await rename(join(directory, 'real'), step);
      await rename(join(step, 'weightcast-manifest.json'), join(directory, 'manifest'));
      await symlink(join(directory, 'manifest'), join(step, 'weightcast-manifest.json'));
      expect(await refusal(directory, { version: 5 })).toMatchObject({ code: 'WC_MANIFEST_INVALID' });
      expect(await listPublished(directory)).toEqual([]);
    }));

  test('a header that says something else than the manifest', () =>
    withDirectory(async (directory) => {
      await publishSmall(directory, 5, {
        edit: (manifest) => ({
          ...manifest,
          digestAlgorithm: 'none',
          digest: null,
          shards: manifest.shards.map((shard) => ({
            ...shard,
            tensors: shard.tensors.map(({ name, ...tensor }) => ({
              ...tensor,
              name: `${name}.other`,
              sha256: null,
            })),
          })),
        }),
      });
      expect(await refusal(directory, { version: 5 })).toMatchObject({ code: 'WC_VERSION_CORRUPT' });
    }));

  test('a manifest of another version', () =>
    withDirectory(async (directory) => {
      await rename(await publishSmall(directory, 5), stepFolder(directory, 6));
      expect(await refusal(directory, { version: 6 })).toMatchObject({ code: 'WC_MANIFEST_INVALID' });
      expect(await refusal(directory)).toMatchObject({ code: 'WC_VERSION_NOT_FOUND' });
    }));

  test('a manifest that is not whole: the newest whole version is the latest', () =>
    withDirectory(async (directory) => {
      await publishSmall(directory, 4);
      const step = await publishSmall(directory, 5);
      await truncate(join(step, 'weightcast-manifest.json'), 500);
      await using opened = await openPublished(directory);
      expect(opened.version).toBe(4);
      expect(await refusal(directory, { version: 5 })).toMatchObject({ code: 'WC_MANIFEST_INVALID' });
    }));

  test('a folder with a marker and no manifest', () =>
    withDirectory(async (directory) => {
      const step = await publishSmall(directory, 5);
      await rm(join(step, 'weightcast-manifest.json'));
      expect(await refusal(directory)).toMatchObject({ code: 'WC_VERSION_NOT_FOUND' });
      expect(await leasedVersions(directory, 60_000)).toEqual(new Set());
    }));
});
