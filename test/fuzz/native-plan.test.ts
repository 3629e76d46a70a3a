import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { WeightcastError } from '../../src/errors.js';
import { native } from '../../src/native.js';
import { makePlan, openRuntime, withFolder } from '../native/support.js';

const SEEDS = [20_261_121, Math.floor(Math.random() * 2 ** 31)];
const RUNS = 150;
const SIZE = 4096;

/** Numbers of a plan: what fits, what just does not, and what no number of bytes is. */
const number = fc.oneof(
  fc.nat(SIZE),
  fc.constantFrom(
    -1,
    -0,
    0.5,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    SIZE,
    SIZE + 1,
    2 ** 31,
    2 ** 32,
    2 ** 53 - 1,
    2 ** 53,
    2 ** 64,
    1e308,
  ),
);
const list = fc.array(number, { maxLength: 5 });
const words = fc.array(fc.oneof(fc.nat(3), fc.constantFrom(2 ** 31, 2 ** 32 - 1)), { maxLength: 5 });

const CODES = ['WC_NATIVE_ARGUMENT', 'WC_CHECKPOINT_CHANGED', 'WC_FILE_READ', 'WC_CUDA_OUT_OF_MEMORY'];

/** Refused with a code, or carried out: never a crash, which would end this process. */
async function refusedOrDone(run: () => Promise<unknown>): Promise<void> {
  try {
    await run();
  } catch (error) {
    expect(error).toBeInstanceOf(WeightcastError);
    expect(CODES).toContain((error as WeightcastError).code);
  }
}

test.each(SEEDS)('digests over any segments are taken or refused (seed %i)', (seed) =>
  withFolder(async (folder) => {
    const path = join(folder, 'f');
    await writeFile(path, new Uint8Array(SIZE));
    const job = fc.record({
      segmentFile: words,
      segmentOffset: list,
      segmentBlockBytes: list,
      segmentStrideBytes: list,
      segmentBlocks: list,
      digestSegments: words,
      threads: fc.oneof(fc.nat(2), number),
    });
    await fc.assert(
      fc.asyncProperty(job, async (job) => {
        await refusedOrDone(async () => {
          const hash = native().sha256(
            {
              files: [path],
              segmentFile: Uint32Array.from(job.segmentFile),
              segmentOffset: Float64Array.from(job.segmentOffset),
              segmentBlockBytes: Float64Array.from(job.segmentBlockBytes),
              segmentStrideBytes: Float64Array.from(job.segmentStrideBytes),
              segmentBlocks: Float64Array.from(job.segmentBlocks),
              digestSegments: Uint32Array.from(job.digestSegments),
              threads: job.threads,
            },
            null,
          );
          expect(await hash.result).toHaveLength(32 * job.digestSegments.length);
        });
      }),
      { seed, numRuns: RUNS },
    );
  }),
);

test.each(SEEDS)('any plan of ranges is staged or refused (seed %i)', (seed) =>
  withFolder(async (folder) => {
    const path = join(folder, 'f');
    await writeFile(path, new Uint8Array(SIZE));
    const runtime = await openRuntime();
    const communicator = await runtime.communicator(0);
    const count = fc.oneof(
      { weight: 4, arbitrary: fc.integer({ min: 2, max: 3 }) },
      { weight: 1, arbitrary: number },
    );
    // Staging beyond a megabyte is the caller's own wish, and only refused when there is none: not asked for here.
    const bytes = fc.oneof(
      { weight: 4, arbitrary: fc.integer({ min: 1, max: SIZE }) },
      { weight: 1, arbitrary: fc.constantFrom(0, -1, 0.5, Number.NaN, 2 ** 53, 2 ** 64) },
    );
    const plan = fc.record({
      fileSizes: fc.oneof({ weight: 4, arbitrary: fc.constant([SIZE]) }, { weight: 1, arbitrary: list }),
      rangeKind: fc.array(fc.oneof(fc.nat(3), fc.constant(255)), { maxLength: 5 }),
      rangeSource: words,
      rangeOffset: list,
      rangeLength: list,
      frameRanges: words,
      slots: count,
      slotBytes: bytes,
      pieces: count,
      pieceBytes: bytes,
      root: fc.oneof(fc.constant(0), number),
    });
    try {
      await fc.assert(
        fc.asyncProperty(plan, fc.boolean(), fc.nat(5), async (plan, aligned, length) => {
          const cut = <T>(values: readonly T[], filler: T): T[] =>
            aligned ? Array.from({ length }, (_, i) => values[i] ?? filler) : [...values];
          await refusedOrDone(async () => {
            const transfer = await communicator.prepare(
              {
                ...makePlan([{ path, size: SIZE }], []),
                ...plan,
                fileSizes: Float64Array.from(plan.fileSizes),
                rangeKind: Uint8Array.from(cut(plan.rangeKind, 0)),
                rangeSource: Uint32Array.from(cut(plan.rangeSource, 0)),
                rangeOffset: Float64Array.from(cut(plan.rangeOffset, 0)),
                rangeLength: Float64Array.from(cut(plan.rangeLength, 1)),
                frameRanges: Uint32Array.from(aligned ? [length] : plan.frameRanges),
                hostBytes: new Uint8Array(16),
              },
              60_000,
            );
            await transfer.close();
          });
        }),
        { seed, numRuns: RUNS },
      );
    } finally {
      await communicator.abort();
      await communicator.destroy(1_000);
    }
  }),
);
