import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { corpusOf } from './coverage/corpus.js';
import { COMMON_WORDS, mutate } from './coverage/mutate.js';
import { Random } from './coverage/random.js';
import { TARGETS } from './targets/index.js';

/** Once the same for everybody, once new each time: the seed of a failure is printed with it. */
const SEEDS = [20_261_121, Math.floor(Math.random() * 2 ** 31)];
const RUNS = 300;

const SEEDED = await Promise.all(
  TARGETS.map(async (target) => [target.name, target, await target.seeds()] as const),
);

describe.each(SEEDED)('%s', (name, target, seeds) => {
  test('takes its valid inputs, and all that once failed or was new to the fuzzer', async () => {
    expect(seeds.length).toBeGreaterThan(0);
    for (const input of [...seeds, ...corpusOf(name)]) await target.run(input);
  });

  test.each(SEEDS)('takes or refuses any change of a valid input (seed %i)', async (seed) => {
    const changed = fc
      .tuple(fc.nat(seeds.length - 1), fc.nat())
      .map(([index, random]) =>
        mutate(seeds[index]!, new Random(random), { words: COMMON_WORDS, others: seeds }),
      );
    await fc.assert(
      fc.asyncProperty(changed, async (input) => target.run(input)),
      { seed, numRuns: RUNS },
    );
  });

  test.each(SEEDS)('takes or refuses any bytes (seed %i)', async (seed) => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (input) => target.run(input)),
      { seed, numRuns: RUNS },
    );
  });

  test('takes or refuses every beginning of a valid input', async () => {
    const [first] = [...seeds].sort((a, b) => b.length - a.length).filter(({ length }) => length < 2_000);
    for (let length = 0; length <= first!.length; length++) await target.run(first!.subarray(0, length));
  });
});
