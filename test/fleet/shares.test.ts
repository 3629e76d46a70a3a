import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hasCode } from '../../src/errors.js';
import { shareWorkers } from '../../src/fleet/shares.js';

const engines = (...workers: (number | null)[]) =>
  workers.map((count, index) => ({ id: `e${index}`, workers: count }));

describe('shareWorkers', () => {
  it.each([
    ['equal shares', engines(null, null), 8, [4, 4]],
    ['what was said', engines(2, 4), 6, [2, 4]],
    ['the rest to those that were not said', engines(2, null, null), 8, [2, 3, 3]],
    ['one each where nothing is known', engines(null, null), null, [1, 1]],
    ['what was said without a sum', engines(2, null), null, [2, 1]],
  ])('gives %s', (_, fleet, worldSize, shares) => {
    expect(shareWorkers(fleet, worldSize)).toEqual(shares);
  });

  it.each([
    ['an uneven share', engines(null, null), 7],
    ['none for some', engines(8, null), 8],
    ['less than none', engines(9, null), 8],
    ['another sum than was said', engines(2, 2), 5],
  ])('refuses %s: never by integer division', (_, fleet, worldSize) => {
    try {
      shareWorkers(fleet, worldSize);
    } catch (error) {
      expect(hasCode(error, 'WC_CONFIG_INVALID')).toBe(true);
      return;
    }
    throw new Error('it was shared');
  });

  it('hands out every worker, or none at all', () => {
    const said = fc.array(fc.option(fc.integer({ min: 1, max: 64 })), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(said, fc.integer({ min: 1, max: 2000 }), (workers, worldSize) => {
        let shares: readonly number[] | null = null;
        try {
          shares = shareWorkers(engines(...workers), worldSize);
        } catch {
          return;
        }
        expect(shares.reduce((sum, share) => sum + share, 0)).toBe(worldSize);
        expect(Math.min(...shares)).toBeGreaterThan(0);
      }),
    );
  });
});
