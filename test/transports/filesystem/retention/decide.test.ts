import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  decideRetention,
  type RetainedVersion,
  type RetentionPolicy,
} from '../../../../src/transports/filesystem/retention/decide.js';

const MINUTE = 60_000;
const NONE: ReadonlySet<number> = new Set();
const policy = (over: Partial<RetentionPolicy> = {}): RetentionPolicy => ({
  keep: 2,
  keepEvery: null,
  graceMs: 0,
  ...over,
});
/** Published one a minute, in the order of their numbers. */
const full = (...versions: number[]): RetainedVersion[] =>
  versions.map((version, i) => ({ version, base: null, ageMs: (versions.length - i) * MINUTE }));
const keptOf = (found: ReturnType<typeof decideRetention>) =>
  found.kept.map(({ version, reason }) => `${version} ${reason}`);

describe('what stays, and why', () => {
  test('the newest', () => {
    const found = decideRetention(full(1, 2, 3, 4), NONE, policy());
    expect(keptOf(found)).toEqual(['4 newest', '3 newest']);
    expect(found.removed).toEqual([1, 2]);
  });

  test('every k-th, and version 0', () => {
    const found = decideRetention(full(0, 1, 10, 11, 20, 21, 22), NONE, policy({ keepEvery: 10 }));
    expect(keptOf(found)).toEqual(['22 newest', '21 newest', '20 every', '10 every', '0 every']);
  });

  test('what is read, and what is young', () => {
    const found = decideRetention(full(1, 2, 3, 4, 5), new Set([1]), policy({ graceMs: 3.5 * MINUTE }));
    expect(keptOf(found)).toEqual(['5 newest', '4 newest', '3 young', '1 leased']);
    expect(found.removed).toEqual([2]);
  });

  test('what a delta that stays is a delta of, down to the full version', () => {
    const versions = full(1, 2, 3, 4, 5).map((one) =>
      [2, 3, 5].includes(one.version) ? { ...one, base: one.version - 1 } : one,
    );
    expect(keptOf(decideRetention(versions, new Set([3]), policy()))).toEqual([
      '5 newest',
      '4 newest',
      '3 leased',
      '2 base',
      '1 base',
    ]);
  });

  test('the newest by their age too: a trainer that went back counts from there', () => {
    const again = [
      { version: 51, base: null, ageMs: 2 },
      { version: 52, base: null, ageMs: 1 },
    ];
    const found = decideRetention([...full(98, 99, 100), ...again], NONE, policy());
    expect(keptOf(found)).toEqual(['100 newest', '99 newest', '52 newest', '51 newest']);
    expect(found.removed).toEqual([98]);
  });

  test('bases that go round in a circle, or are not there, end', () => {
    const circle = full(1, 2, 3, 4).map((one) => ({ ...one, base: { 1: 2, 2: 1 }[one.version] ?? null }));
    expect(decideRetention(circle, NONE, policy()).removed).toEqual([1, 2]);
    expect(decideRetention([{ version: 9, base: 8, ageMs: 0 }], NONE, policy()).removed).toEqual([]);
  });
});

const versionsArb = fc
  .uniqueArray(
    fc.record({
      version: fc.nat({ max: 60 }),
      back: fc.option(fc.integer({ min: 1, max: 5 }), { nil: null }),
      ageMs: fc.nat({ max: 100 }),
    }),
    { selector: ({ version }) => version, maxLength: 40 },
  )
  .map((list) =>
    list.map(({ version, back, ageMs }) => ({
      version,
      base: back !== null && version >= back ? version - back : null,
      ageMs,
    })),
  );

test('whatever is there: nothing leased, young, newest or needed goes, everything is in one list, and each stop leaves whole chains', () => {
  fc.assert(
    fc.property(
      versionsArb,
      fc.uniqueArray(fc.nat({ max: 60 })),
      fc.integer({ min: 2, max: 6 }),
      fc.option(fc.integer({ min: 1, max: 9 }), { nil: null }),
      fc.nat({ max: 100 }),
      (versions, leased, keep, keepEvery, graceMs) => {
        const found = decideRetention(versions, new Set(leased), { keep, keepEvery, graceMs });
        const kept = new Set(found.kept.map(({ version }) => version));
        const all = versions.map(({ version }) => version).sort((a, b) => a - b);
        expect([...kept, ...found.removed].sort((a, b) => a - b)).toEqual(all);
        expect(kept.size).toBeGreaterThanOrEqual(Math.min(keep, all.length));
        const there = new Map(versions.map((one) => [one.version, one]));
        for (const version of all.slice(-keep)) expect(kept).toContain(version);
        for (const { version, ageMs, base } of versions) {
          if (leased.includes(version) || ageMs < graceMs) expect(kept).toContain(version);
          if (keepEvery !== null && version % keepEvery === 0) expect(kept).toContain(version);
          if (kept.has(version) && base !== null && there.has(base)) expect(kept).toContain(base);
        }
        for (const gone of found.removed) {
          for (const { version, base } of there.values()) expect(base === gone, `${version}`).toBe(false);
          there.delete(gone);
        }
      },
    ),
    { numRuns: 500 },
  );
});
