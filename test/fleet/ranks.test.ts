import fc from 'fast-check';
import { expect, it } from 'vitest';
import { planRanks } from '../../src/fleet/ranks.js';

it('seats uneven engines one after another behind the trainer', () => {
  const plan = planRanks([
    { engine: 'a', workers: 2 },
    { engine: 'b', workers: 1 },
    { engine: 'c', workers: 8 },
  ]);
  expect(plan.worldSize).toBe(12);
  expect(plan.seats.map((seat) => seat.rankOffset)).toEqual([1, 3, 4]);
});

it('gives every rank but 0 to exactly one worker', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 64 }), { minLength: 1, maxLength: 50 }), (sizes) => {
      const plan = planRanks(sizes.map((workers, index) => ({ engine: String(index), workers })));
      const ranks = plan.seats.flatMap((seat) =>
        Array.from({ length: seat.workers }, (_, i) => seat.rankOffset + i),
      );
      expect(ranks).toEqual(Array.from({ length: plan.worldSize - 1 }, (_, i) => i + 1));
    }),
  );
});

it('refuses an engine without workers', () => {
  expect(() => planRanks([{ engine: 'a', workers: 0 }])).toThrow(/a has 0 workers/);
});
