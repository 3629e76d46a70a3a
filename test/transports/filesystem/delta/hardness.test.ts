/** Deltas where something is missing, full, cut short or interrupted. test/fuzz/targets/delta-file.ts has the hostile ones, test/crash the killed ones. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { native } from '../../../../src/native.js';
import { applyDelta } from '../../../../src/transports/filesystem/delta/index.js';
import { followPublished } from '../../../../src/transports/filesystem/follow/index.js';
import { publish } from '../../../../src/transports/filesystem/publish/index.js';
import { openPublished } from '../../../../src/transports/filesystem/published/index.js';
import { openCheckpoint } from '../../../../src/weights/checkpoint.js';
import { DTYPES, type DType } from '../../../../src/weights/dtype.js';
import { writeCheckpoint } from '../../../../src/weights/write.js';
import { withDirectory } from '../../../weights/files.js';
import { everythingIn, requireWhole, weightsIn } from '../publish/support.js';

afterEach(() => vi.restoreAllMocks());

const FAST = { fsync: false } as const;

/** Two checkpoints; with a seed alike, some bytes of the second are others. */
async function checkpoints(folder: string, rows = 300): Promise<readonly [string, string]> {
  const tensors = [
    { name: 'a', dtype: 'BF16', shape: [rows, 1024] },
    { name: 'b', dtype: 'F32', shape: [77] },
  ];
  const paths = [join(folder, 'first'), join(folder, 'second')] as const;
  for (const path of paths) await writeCheckpoint(path, tensors, { seed: 3 });
  const file = join(paths[1], 'model.safetensors');
  const bytes = await readFile(file);
  for (let at = 4096; at < bytes.length; at += 333) bytes[at] = (bytes[at] as number) ^ 1;
  await writeFile(file, bytes);
  return paths;
}

/** Everything but leases that are being let go. */
const leftIn = async (directory: string) =>
  (await everythingIn(directory)).filter((name) => name !== '.weightcast/leases');

describe('without libzstd', () => {
  it('a publisher says so, and publishes what readers need no libzstd for', async () => {
    await withDirectory(async (folder) => {
      const [first, second] = await checkpoints(folder);
      const directory = join(folder, 'published');
      await publish(first, { directory, version: 1, ...FAST });
      vi.spyOn(native(), 'zstd').mockReturnValue(null);
      const notes: string[] = [];
      const onNote = (text: string) => void notes.push(text);
      const { path, manifest } = await publish(second, {
        directory,
        version: 2,
        delta: true,
        onNote,
        ...FAST,
      });
      expect(notes).toEqual([expect.stringMatching(/libzstd is not installed.*Install libzstd1/)]);
      expect((await readFile(join(path, 'changes.wcdelta'))).readUInt32LE(12)).toBe(0);
      await using delta = await openPublished(directory, { version: 2 });
      await using base = await openPublished(directory, { version: 1 });
      const made = await applyDelta(delta, base, { into: join(folder, 'made'), version: 2, ...FAST });
      expect(made.manifest.digest).toBe(manifest.digest);
      expect(await weightsIn(made.path)).toEqual(await weightsIn(second));
    });
  });

  it('no note is made of a full version, nor where libzstd is found', async () => {
    await withDirectory(async (folder) => {
      const [first, second] = await checkpoints(folder);
      const options = { directory: join(folder, 'published'), delta: true, ...FAST };
      const onNote = vi.fn();
      vi.spyOn(native(), 'zstd').mockReturnValueOnce(null);
      await publish(first, { ...options, version: 1, onNote });
      vi.restoreAllMocks();
      await publish(second, { ...options, version: 2, onNote });
      expect(onNote).not.toHaveBeenCalled();
    });
  });
});

describe('a signal', () => {
  /** Long enough for a report of progress in the middle, also on a machine that is busy elsewhere. */
  const ROWS = 96 * 1024;

  it('in the middle of encoding or applying ends it with its reason, and nothing is left', {
    timeout: 120_000,
  }, async () => {
    await withDirectory(async (folder) => {
      const [first, second] = await checkpoints(folder, ROWS);
      const directory = join(folder, 'published');
      const into = join(folder, 'local');
      await publish(first, { directory, version: 1, ...FAST });
      const stopped = async (
        work: (options: { signal: AbortSignal; onProgress(bytes: number): void }) => Promise<unknown>,
      ) => {
        const stop = new AbortController();
        const seen: number[] = [];
        const onProgress = (bytes: number) => {
          seen.push(bytes);
          stop.abort(new Error('enough'));
        };
        await expect(work({ signal: stop.signal, onProgress })).rejects.toThrow('enough');
        expect(seen[0]).toBeLessThan(ROWS * 2048);
      };
      const before = await leftIn(directory);
      await stopped((options) =>
        publish(second, { directory, version: 2, delta: true, ...FAST, ...options }),
      );
      expect(await leftIn(directory)).toEqual(before);
      await publish(second, { directory, version: 2, delta: true, ...FAST });
      await using delta = await openPublished(directory, { version: 2 });
      await using base = await openPublished(directory, { version: 1 });
      await stopped((options) => applyDelta(delta, base, { into, version: 2, ...FAST, ...options }));
      expect(await leftIn(into)).toEqual([]);
    });
  });
});

describe('free space', () => {
  it('is looked at before a delta is written: what is based on nothing is stored whole', async () => {
    await withDirectory(async (folder) => {
      const [first, second] = await checkpoints(folder);
      const directory = join(folder, 'published');
      await publish(first, { directory, version: 1, ...FAST });
      const before = await leftIn(directory);
      const { tensors, files } = await openCheckpoint(second);
      const byteLength = 2 ** 46;
      const path = join(folder, 'huge');
      const huge = {
        ...{ name: 'huge', dtype: DTYPES.get('U8') as DType, shape: [byteLength] },
        range: { kind: 'file', path, offset: 0, byteLength },
      } as const;
      const source = { tensors: [...tensors, huge], files: [...files, { path, byteLength, stamp: '' }] };
      await expect(publish(source, { directory, version: 2, delta: true, ...FAST })).rejects.toMatchObject({
        code: 'WC_PUBLISH_SPACE',
        details: { needed: expect.any(Number), path: directory },
      });
      expect(await leftIn(directory)).toEqual(before);
    });
  });
});

it('what a delta makes is whole, and on the disk, before it is there', async () => {
  await withDirectory(async (folder) => {
    const [first, second] = await checkpoints(folder);
    const directory = join(folder, 'published');
    await publish(first, { directory, version: 1, ...FAST });
    await publish(second, { directory, version: 2, delta: true, ...FAST });
    await using delta = await openPublished(directory, { version: 2 });
    await using base = await openPublished(directory, { version: 1 });
    // The draft was once disposed of while it was committed, which took longer with fsync.
    for (let i = 0; i < 5; ++i) {
      const into = join(folder, `made-${i}`);
      const { path } = await applyDelta(delta, base, { into, version: 2, shardBytes: 1000 });
      await requireWhole(path);
    }
  });
});

describe('a delta in manifest-last mode', () => {
  it('has the nonce in its names, and is followed as any other', async () => {
    await withDirectory(async (folder) => {
      const [first, second] = await checkpoints(folder);
      const directory = join(folder, 'published');
      const commit = 'manifest-last';
      await publish(first, { directory, version: 1, commit, ...FAST });
      const { path, manifest } = await publish(second, {
        directory,
        version: 2,
        commit,
        delta: true,
        ...FAST,
      });
      const { nonce } = manifest.publisher;
      expect((await readdir(path)).sort()).toEqual(
        [`changes-${nonce}.wcdelta`, 'weightcast-delta.json', 'weightcast-manifest.json'].sort(),
      );
      const into = join(folder, 'local');
      const signal = AbortSignal.timeout(60_000);
      const made = await followPublished(directory, { into, signal, maxVersions: 2, pollMs: 5, ...FAST });
      expect(made).toBe(2);
      expect(await weightsIn(join(into, 'step_2'))).toEqual(await weightsIn(second));
      await expect(
        publish(second, { directory, version: 2, commit, delta: true, ...FAST }),
      ).rejects.toMatchObject({ code: 'WC_PUBLISH_EXISTS' });
    });
  });
});
