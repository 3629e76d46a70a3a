import { describe, expect, it } from 'vitest';
import { WeightcastError } from '../../src/errors.js';
import { majority } from '../../src/update/fingerprint.js';
import { type Damage, planHealing } from '../../src/update/heal.js';
import { resolveSettings } from '../../src/update/settings.js';

const damage = (part: Partial<Damage>): Damage => ({
  onNew: 0,
  servingOld: 0,
  untouched: 0,
  quarantined: 0,
  fallback: false,
  recover: false,
  interrupted: false,
  ...part,
});

describe('what becomes of engines that an update left behind', () => {
  it.each([
    ['nobody is damaged', damage({ onNew: 3 }), 'leave'],
    [
      'nothing was transferred: everybody goes back to the old version',
      damage({ untouched: 2 }),
      'resume-old',
    ],
    [
      'some serve the new version: the rest loads it from disk',
      damage({ onNew: 1, quarantined: 1, fallback: true }),
      'load-new',
    ],
    [
      'some serve the new version: the old one is never resumed beside it',
      damage({ onNew: 1, untouched: 1, recover: true }),
      'leave',
    ],
    [
      'all are damaged, files are allowed',
      damage({ quarantined: 2, fallback: true, recover: true }),
      'load-new',
    ],
    [
      'all are damaged, only the old version is at hand',
      damage({ quarantined: 2, recover: true }),
      'load-recover',
    ],
    [
      'an interruption moves nobody who is still on the old version',
      damage({ quarantined: 1, untouched: 1, fallback: true, interrupted: true }),
      'resume-old',
    ],
    [
      'damaged ones stay out, untouched ones serve on',
      damage({ quarantined: 1, untouched: 1 }),
      'resume-old',
    ],
    [
      'some serve the old version: no other is loaded beside it',
      damage({ servingOld: 1, quarantined: 1, fallback: true, recover: true }),
      'leave',
    ],
    [
      'some serve the old version: untouched ones join them',
      damage({ servingOld: 1, untouched: 1, quarantined: 1, fallback: true }),
      'resume-old',
    ],
    [
      'old and new are served already: nobody is added to either',
      damage({ servingOld: 1, onNew: 1, quarantined: 1, untouched: 1, fallback: true }),
      'leave',
    ],
    [
      'one that is out may be serving the new version: the old one is not resumed beside it',
      damage({ untouched: 1, quarantined: 1, mayBeNew: 1 }),
      'leave',
    ],
    [
      'one that is out may be serving the new version: the old one is not loaded beside it',
      damage({ quarantined: 2, mayBeNew: 1, recover: true }),
      'leave',
    ],
    [
      'one that is out may be serving the new version: the others load that',
      damage({ untouched: 1, quarantined: 1, mayBeNew: 1, fallback: true, recover: true }),
      'load-new',
    ],
    ['all are damaged and nothing heals', damage({ quarantined: 2 }), 'leave'],
    [
      'some serve the new version, and the rest loads no directory',
      damage({ onNew: 1, quarantined: 1, loadable: 0, fallback: true }),
      'leave',
    ],
    [
      'the damaged ones load no directory: the untouched ones serve on',
      damage({ untouched: 1, quarantined: 1, loadable: 1, fallback: true, recover: true }),
      'resume-old',
    ],
    [
      'an untouched one that loads no directory stays out where more engines serve without it',
      damage({ untouched: 1, quarantined: 2, loadable: 2, fallback: true }),
      'load-new',
    ],
    [
      'nobody loads a directory, and nobody is untouched',
      damage({ quarantined: 2, loadable: 0, fallback: true, recover: true }),
      'leave',
    ],
  ] as const)('%s', (_, given, expected) => {
    expect(planHealing(given)).toBe(expected);
  });
});

describe('the majority of a fleet', () => {
  it('is every engine when scores differ by noise only', () => {
    expect([
      ...majority(
        new Map([
          ['a', [-1, -2]],
          ['b', [-1.1, -2]],
          ['c', [-1, -2.05]],
        ]),
      ),
    ]).toEqual(['a', 'b', 'c']);
  });

  it('leaves out the one that scores another model', () => {
    expect([
      ...majority(
        new Map([
          ['a', [-1, -2]],
          ['b', [-4, -2]],
          ['c', [-1, -2]],
        ]),
      ),
    ]).toEqual(['a', 'c']);
  });

  it('is empty when two engines disagree, since neither is known to be right', () => {
    expect(
      majority(
        new Map([
          ['a', [-1]],
          ['b', [-4]],
        ]),
      ).size,
    ).toBe(0);
  });

  it('never counts a score that is not a number', () => {
    expect(
      majority(
        new Map([
          ['a', [Number.NaN]],
          ['b', [Number.NaN]],
        ]),
      ).size,
    ).toBe(0);
  });
});

describe('fleet options', () => {
  it('have defaults for everything but the engines', () => {
    expect(resolveSettings({ engines: ['http://a'] })).toMatchObject({
      transport: 'nccl',
      pauseMode: 'keep',
      clearCache: true,
      verify: 'auto',
    });
  });

  it.each([
    [{ engines: [] }, /engines/],
    [{ engines: ['a'], packedBufferBytes: 0 }, /packedBufferBytes/],
    [{ engines: ['a'], masterPort: 70_000 }, /masterPort/],
    [{ engines: ['a'], timeouts: { update: 0 } }, /timeouts.update/],
    [
      { engines: ['a'], transport: 'carrier-pigeon' as 'nccl' },
      /transport: expected one of nccl, filesystem/,
    ],
  ])('%j is refused by name', (options, message) => {
    expect(() => resolveSettings(options)).toThrow(message);
    expect(() => resolveSettings(options)).toThrow(WeightcastError);
  });
});
