import { mkdir, mkdtemp, readdir, readFile, rm, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { writeTinyModel } from '../../../src/testing/index.js';
import { type DiffOptions, diffPairs } from '../../../src/update/delta/diff.js';
import { Spool } from '../../../src/update/delta/spool.js';
import { type Checkpoint, openCheckpoint } from '../../../src/weights/checkpoint.js';
import { pairSteps } from '../../../src/weights/pairs.js';
import type { Tensor } from '../../../src/weights/tensor.js';
import { runToEnd } from '../../../src/weights/yielding.js';
import { writeChanged } from '../../weights/changed.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weightcast-diff-'));
});
afterEach(() => rm(folder, { recursive: true }));

async function versions(fraction: number): Promise<[Checkpoint, Checkpoint]> {
  await writeTinyModel(join(folder, 'a'), { seed: 1, shards: 2 });
  await writeChanged(join(folder, 'a'), join(folder, 'b'), { fraction, seed: 5 });
  return [await openCheckpoint(join(folder, 'a')), await openCheckpoint(join(folder, 'b'))];
}

async function bytesOf({ range }: Tensor): Promise<Buffer> {
  if (range.kind !== 'file') throw new Error('no file');
  return (await readFile(range.path)).subarray(range.offset, range.offset + range.byteLength);
}

async function diff([base, next]: [Checkpoint, Checkpoint], spool: Spool, more: Partial<DiffOptions> = {}) {
  return diffPairs(runToEnd(pairSteps(base, next)), {
    spool,
    files: [...base.files, ...next.files],
    limitBytes: next.byteLength,
    signal: new AbortController().signal,
    onProgress: () => undefined,
    ...more,
  });
}

describe('the difference of two versions', () => {
  it.each([[undefined], [100_000], [1]])(
    'in parts of %s bytes makes the new one out of the old one',
    async (partBytes) => {
      const pair = await versions(0.03);
      await using spool = await Spool.create(folder);
      const { changes, files } = await diff(pair, spool, partBytes === undefined ? {} : { partBytes });
      const base = new Map(pair[0].tensors.map((tensor) => [tensor.name, tensor]));
      expect(changes.map(({ tensor }) => tensor)).toEqual(pair[1].tensors);
      for (const { tensor, updates, indices, values } of changes) {
        const patched = Buffer.from(await bytesOf(base.get(tensor.name) as Tensor));
        const index = (await readFile(indices.path)).subarray(indices.offset);
        const value = (await readFile(values.path)).subarray(values.offset);
        for (let i = 0; i < updates; i += 1)
          patched.set(value.subarray(2 * i, 2 * i + 2), 2 * index.readInt32LE(4 * i));
        expect(patched.equals(await bytesOf(tensor))).toBe(true);
      }
      for (const { path, byteLength } of files) expect((await readFile(path)).length).toBe(byteLength);
    },
  );

  it('ends as soon as it is larger than the model, and says how far it came', async () => {
    const pair = await versions(0.9);
    await using spool = await Spool.create(folder);
    await expect(diff(pair, spool, { partBytes: 100_000 })).rejects.toMatchObject({
      code: 'WC_DELTA_TOO_LARGE',
      details: { compared: expect.any(Number) },
    });
  });

  it('ends when it is interrupted', async () => {
    const pair = await versions(0.01);
    await using spool = await Spool.create(folder);
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(diff(pair, spool, { signal })).rejects.toThrow('enough');
  });
});

describe('a spool', () => {
  it('is a folder of this process that is gone when it is closed, twice too', async () => {
    const spool = await Spool.create(folder);
    expect(await readdir(folder)).toEqual([expect.stringMatching(`^weightcast-delta-${process.pid}-`)]);
    await spool.close();
    await spool.close();
    expect(await readdir(folder)).toEqual([]);
  });

  it('refuses what the disk has no room for', async () => {
    await using spool = await Spool.create(folder);
    await spool.requireRoom(1);
    await expect(spool.requireRoom(2 ** 60)).rejects.toMatchObject({ code: 'WC_FILE_WRITE' });
  });

  it('sweeps what processes left that were killed long ago, and nothing else', async () => {
    const gone = 4_194_304; // above every pid that Linux gives
    const old = new Date(Date.now() - 7 * 3_600_000);
    const names = [
      `weightcast-delta-${gone}-old`,
      `weightcast-delta-${process.pid}-mine`,
      'weightcast-delta-x',
    ];
    for (const name of names) {
      await mkdir(join(folder, name));
      await utimes(join(folder, name), old, old);
    }
    await mkdir(join(folder, `weightcast-delta-${gone}-young`));
    await using spool = await Spool.create(folder);
    const left = await readdir(folder);
    expect(left).not.toContain(names[0]);
    expect(left).toEqual(expect.arrayContaining([names[1], names[2], `weightcast-delta-${gone}-young`]));
    expect(left).toHaveLength(4);
    expect(spool.path).toContain(folder);
  });
});
