import { createHash, randomBytes } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { native, type WriteJob } from '../../src/native.js';
import { longestStall, makePlan, type RangeSpec, withFolder } from './support.js';

interface Source {
  readonly path: string;
  readonly size: number;
}

/** The ranges of each target. */
function makeJob(
  sources: readonly Source[],
  targets: Readonly<Record<string, readonly RangeSpec[]>>,
  options: Partial<WriteJob> = {},
): WriteJob {
  const { frameRanges, files, fileSizes, rangeKind, rangeSource, rangeOffset, rangeLength, hostBytes } =
    makePlan(sources, Object.values(targets));
  return {
    files,
    fileSizes,
    rangeKind,
    rangeSource,
    rangeOffset,
    rangeLength,
    hostBytes,
    deviceBuffers: [],
    targets: Object.keys(targets),
    targetRanges: frameRanges,
    digest: true,
    sync: false,
    threads: 2,
    ...options,
  };
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

function hexOf(digests: Uint8Array): string[] {
  const bytes = Buffer.from(digests);
  return Array.from({ length: bytes.length / 32 }, (_, i) =>
    bytes.subarray(i * 32, i * 32 + 32).toString('hex'),
  );
}

async function withSource<T>(
  size: number,
  use: (source: Source, bytes: Buffer, folder: string) => Promise<T>,
): Promise<T> {
  return await withFolder(async (folder) => {
    const bytes = randomBytes(size);
    const path = join(folder, 'source');
    await writeFile(path, bytes);
    return await use({ path, size }, bytes, folder);
  });
}

describe('write', () => {
  it('writes targets from ranges of files and host bytes, and hashes each range', async () => {
    await withSource(30_000_001, async (source, bytes, folder) => {
      const header = randomBytes(1_001);
      const cuts = [0, 1, 9, 9, 4_000_000, 4_000_000, 21_000_000, 21_000_064, 30_000_001];
      const ranges: RangeSpec[] = cuts
        .slice(1)
        .map((end, i) => ({ file: 0, offset: cuts[i]!, length: end - cuts[i]! }));
      const targets = {
        [join(folder, 'a')]: [{ host: header }, ...ranges],
        [join(folder, 'b')]: [...ranges].reverse(),
        [join(folder, 'empty')]: [],
        [join(folder, 'nothing')]: [ranges[2]!, { host: Buffer.alloc(0) }],
      };
      const bytesOf = (range: RangeSpec): Uint8Array =>
        'host' in range ? range.host : bytes.subarray(range.offset, range.offset + range.length);
      for (const [threads, sync] of [
        [1, false],
        [3, true],
        [0, false],
      ] as const) {
        const { digests, stats } = await native().write(makeJob([source], targets, { threads, sync }), null)
          .result;
        for (const [path, parts] of Object.entries(targets)) {
          expect(sha256(await readFile(path))).toBe(sha256(Buffer.concat(parts.map(bytesOf))));
          await rm(path);
        }
        expect(hexOf(digests)).toEqual(
          Object.values(targets)
            .flat()
            .map((range) => sha256(bytesOf(range))),
        );
        expect(stats).toMatchObject({ targets: 4, bytes: 60_001_003 });
        expect(stats.elapsedMs).toBeGreaterThan(0);
      }
    });
  });

  it('writes the same bytes without digests, in parts', async () => {
    await withSource(40_000_003, async (source, bytes, folder) => {
      const target = join(folder, 'target');
      const ranges = [
        { file: 0, offset: 5, length: 20_000_000 },
        { host: randomBytes(77) },
        { file: 0, offset: 3, length: 40_000_000 },
      ];
      const { digests } = await native().write(
        makeJob([source], { [target]: ranges }, { digest: false }),
        null,
      ).result;
      expect(digests).toHaveLength(0);
      expect(sha256(await readFile(target))).toBe(
        sha256(
          Buffer.concat([
            bytes.subarray(5, 20_000_005),
            (ranges[1] as { host: Buffer }).host,
            bytes.subarray(3, 40_000_003),
          ]),
        ),
      );
    });
  });

  it('reports progress seldom, ends with the total, and leaves the event loop alone', async () => {
    await withSource(64 << 20, async (source, _bytes, folder) => {
      const seen: number[] = [];
      const targets = Object.fromEntries(
        Array.from({ length: 6 }, (_, i) => [
          join(folder, `${i}`),
          [{ file: 0, offset: 0, length: source.size }],
        ]),
      );
      const start = performance.now();
      const stall = await longestStall(
        () => native().write(makeJob([source], targets), (bytes) => seen.push(bytes)).result,
      );
      const elapsed = performance.now() - start;
      expect(seen.at(-1)).toBe(6 * source.size);
      expect(seen.length).toBeLessThanOrEqual((elapsed / 1000) * 30 + 2);
      // On the event loop it would be one stall; a shared machine has stalls of its own.
      expect(stall).toBeLessThan(elapsed / 2);
    });
  });
});
