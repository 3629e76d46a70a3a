import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { constants, open, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type HashJob, native } from '../../src/native.js';
import { longestStall, withFolder } from './support.js';

interface Segment {
  readonly file?: number;
  readonly offset: number;
  readonly blockBytes: number;
  readonly strideBytes?: number;
  readonly blocks?: number;
}

function makeJob(files: readonly string[], digests: readonly (readonly Segment[])[], threads = 2): HashJob {
  const segments = digests.flat();
  return {
    files,
    segmentFile: Uint32Array.from(segments, (segment) => segment.file ?? 0),
    segmentOffset: Float64Array.from(segments, (segment) => segment.offset),
    segmentBlockBytes: Float64Array.from(segments, (segment) => segment.blockBytes),
    segmentStrideBytes: Float64Array.from(segments, (segment) => segment.strideBytes ?? segment.blockBytes),
    segmentBlocks: Float64Array.from(segments, (segment) => segment.blocks ?? 1),
    digestSegments: Uint32Array.from(digests, (digest) => digest.length),
    threads,
  };
}

/** What node:crypto says. */
function expected(contents: readonly Uint8Array[], digests: readonly (readonly Segment[])[]): string[] {
  return digests.map((digest) => {
    const hash = createHash('sha256');
    for (const segment of digest) {
      for (let block = 0; block < (segment.blocks ?? 1); ++block) {
        const start = segment.offset + block * (segment.strideBytes ?? segment.blockBytes);
        hash.update(contents[segment.file ?? 0]!.subarray(start, start + segment.blockBytes));
      }
    }
    return hash.digest('hex');
  });
}

async function run(job: HashJob): Promise<string[]> {
  const bytes = Buffer.from(await native().sha256(job, null).result);
  return Array.from({ length: bytes.length / 32 }, (_, index) =>
    bytes.subarray(index * 32, index * 32 + 32).toString('hex'),
  );
}

describe('sha256', () => {
  it('agrees with node:crypto on every length around the padding', async () => {
    await withFolder(async (folder) => {
      const path = join(folder, 'bytes');
      const bytes = randomBytes(200);
      await writeFile(path, bytes);
      const digests = Array.from({ length: 200 }, (_, length) => [{ offset: 0, blockBytes: length }]);
      expect(await run(makeJob([path], digests))).toEqual(expected([bytes], digests));
    });
  });

  it('hashes strided blocks with narrow gaps, wide gaps and no gaps, over several files', async () => {
    await withFolder(async (folder) => {
      const contents = [randomBytes(3_500_000), randomBytes(2_000_000)];
      const files = [join(folder, 'a'), join(folder, 'b')];
      await Promise.all(files.map((file, index) => writeFile(file, contents[index]!)));
      const digests: Segment[][] = [
        [{ offset: 1, blockBytes: 1_000, strideBytes: 3_000, blocks: 1_100 }],
        [{ offset: 0, blockBytes: 100_000, strideBytes: 700_000, blocks: 5 }],
        [{ offset: 13, blockBytes: 4_096, blocks: 800 }],
        [{ offset: 5, blockBytes: 3_200_000 }],
        [{ offset: 0, blockBytes: 1_300_000, strideBytes: 1_310_000, blocks: 2 }],
        [
          { offset: 10, blockBytes: 7, strideBytes: 16, blocks: 999 },
          { file: 1, offset: 0, blockBytes: 2_000_000 },
          { offset: 0, blockBytes: 0 },
        ],
        [],
      ];
      for (const threads of [0, 1, 3]) {
        expect(await run(makeJob(files, digests, threads))).toEqual(expected(contents, digests));
      }
    });
  });

  it('hashes tensors of odd sizes two at a time on a thread', async () => {
    await withFolder(async (folder) => {
      const path = join(folder, 'bytes');
      const bytes = randomBytes(1_200_000);
      await writeFile(path, bytes);
      const sizes = [1_000_001, 600_000, 600_000, 262_145, 262_144, 300_063, 77, 64, 63, 1, 0];
      const digests: Segment[][] = sizes.map((blockBytes, i) => [
        { offset: i, blockBytes },
        { offset: 0, blockBytes: 40 + i, strideBytes: 100, blocks: 1_000 },
      ]);
      for (const threads of [1, 2]) {
        expect(await run(makeJob([path], digests, threads))).toEqual(expected([bytes], digests));
      }
    });
  });

  it('reports progress seldom, ends with the total, and leaves the event loop alone', async () => {
    await withFolder(async (folder) => {
      const path = join(folder, 'bytes');
      await writeFile(path, Buffer.alloc(64 << 20));
      const seen: number[] = [];
      const start = performance.now();
      const job = makeJob(
        [path],
        Array.from({ length: 16 }, (_, index) =>
          Array.from({ length: 8 }, () => ({ offset: index << 22, blockBytes: 1 << 22 })),
        ),
      );
      const stall = await longestStall(() => native().sha256(job, (bytes) => seen.push(bytes)).result);
      const elapsed = performance.now() - start;
      expect(seen.at(-1)).toBe(512 << 20);
      expect(seen.length).toBeLessThanOrEqual((elapsed / 1000) * 30 + 2);
      // On the event loop it would be one stall; a shared machine has stalls of its own.
      expect(stall).toBeLessThan(elapsed / 2);
    });
  });

  it('ends soon when it is cancelled', async () => {
    await withFolder(async (folder) => {
      const path = join(folder, 'bytes');
      await writeFile(path, Buffer.alloc(1 << 20));
      const again = Array.from({ length: 4_000 }, () => ({ offset: 0, blockBytes: 1 << 20 }));
      const hash = native().sha256(makeJob([path], [again]), null);
      const start = performance.now();
      hash.cancel();
      await expect(hash.result).rejects.toMatchObject({ code: 'WC_NATIVE_CLOSED' });
      expect(performance.now() - start).toBeLessThan(1_000);
      hash.cancel();
    });
  });

  it('ends when it is cancelled while a file hangs', async () => {
    await withFolder(async (folder) => {
      const path = join(folder, 'pipe'); // to open it waits for a writer
      execFileSync('mkfifo', [path]);
      const hash = native().sha256(makeJob([path], [[{ offset: 0, blockBytes: 1 }]]), null);
      hash.cancel();
      await expect(hash.result).rejects.toMatchObject({ code: 'WC_NATIVE_CLOSED' });
      await (await open(path, constants.O_RDWR | constants.O_NONBLOCK)).close();
    });
  });

  it('names a file that is missing, too short or contradicts the job', async () => {
    await withFolder(async (folder) => {
      const path = join(folder, 'bytes');
      await expect(run(makeJob([path], [[{ offset: 0, blockBytes: 1 }]]))).rejects.toMatchObject({
        code: 'WC_FILE_READ',
        message: expect.stringContaining(path),
      });
      await writeFile(path, 'abc');
      await truncate(path, 2);
      await expect(run(makeJob([path], [[{ offset: 0, blockBytes: 3 }]]))).rejects.toMatchObject({
        code: 'WC_CHECKPOINT_CHANGED',
      });
      const job = makeJob([path], [[{ offset: 0, blockBytes: 1, blocks: 2, strideBytes: 0 }]]);
      expect(() => native().sha256(job, null)).toThrow(/segmentStrideBytes/);
    });
  });
});
