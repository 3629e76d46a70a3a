import { existsSync, readFileSync } from 'node:fs';
import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type DiffJob, native } from '../../src/native.js';
import { withFolder } from './support.js';

interface Pair {
  readonly base: number;
  readonly next: number;
  readonly length: number;
  readonly elementBytes: number;
}

function makeJob(folder: string, sizes: readonly number[], pairs: readonly Pair[]): DiffJob {
  return {
    files: [join(folder, 'base'), join(folder, 'next')],
    fileSizes: Float64Array.from(sizes),
    baseFile: Uint32Array.from(pairs, () => 0),
    baseOffset: Float64Array.from(pairs, (pair) => pair.base),
    newFile: Uint32Array.from(pairs, () => 1),
    newOffset: Float64Array.from(pairs, (pair) => pair.next),
    length: Float64Array.from(pairs, (pair) => pair.length),
    elementBytes: Uint8Array.from(pairs, (pair) => pair.elementBytes),
    limit: null,
    indicesPath: join(folder, 'indices'),
    valuesPath: join(folder, 'values'),
    threads: 2,
    memoryBytes: 4 << 20,
  };
}

/** Three tensors at places of their own: 6 uint16, 2 uint64, 5 bytes. */
async function writeVersions(folder: string): Promise<DiffJob> {
  const base = new Uint8Array(40).fill(7);
  const next = new Uint8Array(50).fill(7);
  next.set([1, 7, 7, 7, 7, 7, 7, 9, 7, 7, 8, 8], 20);
  next.set([7, 7, 7, 7, 7, 7, 7, 3], 8);
  await writeFile(join(folder, 'base'), base);
  await writeFile(join(folder, 'next'), next);
  return makeJob(
    folder,
    [40, 50],
    [
      { base: 4, next: 20, length: 12, elementBytes: 2 },
      { base: 0, next: 0, length: 16, elementBytes: 8 },
      { base: 35, next: 45, length: 5, elementBytes: 1 },
    ],
  );
}

describe('diff', () => {
  it('spools the indices and new values of the elements that differ', async () => {
    await withFolder(async (folder) => {
      const job = await writeVersions(folder);
      const seen: number[] = [];
      expect(await native().diff(job, (bytes) => seen.push(bytes)).result).toEqual({
        changed: Float64Array.of(3, 1, 0),
        indicesOffset: Float64Array.of(0, 12, 16),
        valuesOffset: Float64Array.of(0, 6, 14),
        dense: Uint8Array.of(0, 0, 0),
      });
      expect(seen.at(-1)).toBe(33);
      const indices = readFileSync(job.indicesPath);
      expect([0, 4, 8, 12].map((at) => indices.readInt32LE(at))).toEqual([0, 3, 5, 1]);
      expect([...readFileSync(job.valuesPath)]).toEqual([1, 7, 7, 9, 8, 8, 7, 7, 7, 7, 7, 7, 7, 3]);
    });
  });

  it('gives up a pair with more changes than its limit and keeps the others', async () => {
    await withFolder(async (folder) => {
      const job = { ...(await writeVersions(folder)), limit: Float64Array.of(2, 1, 0) };
      const { dense, changed, indicesOffset } = await native().diff(job, null).result;
      expect([...dense]).toEqual([1, 0, 0]);
      expect([...changed]).toEqual([3, 1, 0]);
      expect(indicesOffset[1]).toBe(0);
      expect(readFileSync(job.indicesPath).readInt32LE(0)).toBe(1);
      expect(readFileSync(job.valuesPath).length).toBe(8);
    });
  });

  it('refuses files of another size, files that are there, and pairs that contradict themselves', async () => {
    await withFolder(async (folder) => {
      const job = await writeVersions(folder);
      await truncate(job.files[1] as string, 49);
      await expect(native().diff(job, null).result).rejects.toMatchObject({ code: 'WC_CHECKPOINT_CHANGED' });
      expect(existsSync(job.indicesPath) || existsSync(job.valuesPath)).toBe(false);
      await truncate(job.files[1] as string, 50);
      await writeFile(job.valuesPath, '');
      await expect(native().diff(job, null).result).rejects.toMatchObject({
        code: 'WC_FILE_WRITE',
        details: { path: job.valuesPath, errnoName: 'EEXIST' },
      });
      expect(existsSync(job.indicesPath)).toBe(false);
      const refused = (change: Partial<DiffJob>) => () => native().diff({ ...job, ...change }, null);
      expect(refused({ elementBytes: Uint8Array.of(3, 8, 1) })).toThrow(/elementBytes/);
      expect(refused({ length: Float64Array.of(11, 16, 5) })).toThrow(/length/);
      expect(refused({ newFile: Uint32Array.of(1, 1, 2) })).toThrow(/indices of files/);
      expect(refused({ newOffset: Float64Array.of(20, 0, 46) })).toThrow(/inside its files/);
      expect(refused({ limit: Float64Array.of(1) })).toThrow(/limit/);
      expect(refused({ memoryBytes: 1000 })).toThrow(/1 MiB/);
    });
  });

  it('refuses a pair with more elements than an int32 can count', async () => {
    await withFolder(async (folder) => {
      const size = 2 ** 31;
      const pair = { base: 0, next: 0, length: size, elementBytes: 1 };
      expect(() => native().diff(makeJob(folder, [size, size], [pair]), null)).toThrow(/2\^31/);
    });
  });

  it('ends soon when it is cancelled, and leaves no file', async () => {
    await withFolder(async (folder) => {
      const size = 64 << 20;
      await writeFile(join(folder, 'base'), '');
      await writeFile(join(folder, 'next'), '');
      await truncate(join(folder, 'base'), size);
      await truncate(join(folder, 'next'), size);
      const pairs = Array.from({ length: 4_000 }, () => ({
        base: 0,
        next: 0,
        length: size,
        elementBytes: 2,
      }));
      const job = makeJob(folder, [size, size], pairs);
      const diff = native().diff(job, null);
      diff.cancel();
      await expect(diff.result).rejects.toMatchObject({ code: 'WC_NATIVE_CLOSED' });
      expect(existsSync(job.indicesPath) || existsSync(job.valuesPath)).toBe(false);
      diff.cancel();
    });
  });
});
