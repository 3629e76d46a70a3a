/** Recoveries beside engines that serve: no fleet may serve a mix of versions. The engines themselves are asked. */
import { utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { recoverFleet } from '../../src/update/index.js';
import type { EngineState } from '../../src/update/types.js';
import { checkpointIdentity } from '../../src/weights/identity.js';
import { type LeftBehind, leave, withStateDirectory } from './left-behind.js';
import { type Bench, digestsOf, digestsOfLoaded, isPaused, post, postsTo, withBench } from './support.js';

const SHARD = 'model-00001-of-00003.safetensors';

const RESUMED = expect.stringContaining('somebody has resumed it');

interface Fleet extends Bench {
  readonly one: string;
  readonly two: string;
  left(states: readonly (EngineState | null)[], push: LeftBehind['push'], since?: number): Promise<void>;
  recover(urls: readonly string[], from?: string): ReturnType<typeof recoverFleet>;
}

/** Two engines: the first serves, the second is paused. */
async function withFleet(body: (fleet: Fleet) => Promise<void>): Promise<void> {
  await withStateDirectory((stateDir) =>
    withBench({ engines: 2, workers: 1 }, async (bench) => {
      const [one, two] = bench.urls as [string, string];
      await post(two, '/pause');
      await body({
        ...{ ...bench, one, two },
        left: async (states, push, since) => {
          const identity = (await checkpointIdentity(push.weights ?? '')) ?? undefined;
          const named = states.flatMap((state, index) =>
            state === null ? [] : [[bench.urls[index] as string, state] as const],
          );
          return leave(stateDir, {
            states: Object.fromEntries(named),
            push: { identity, ...push },
            ...(since ? { since } : {}),
          });
        },
        recover: (engines, from) => recoverFleet({ engines, stateDir }, { from }),
      });
    }),
  );
}

/** What the second engine held is what it holds. */
async function expectSecondUntouched(
  { engines, two }: Bench & { readonly two: string },
  work: () => Promise<void>,
) {
  const second = engines[1] as Bench['engines'][number];
  const before = await digestsOf(second);
  await work();
  expect(await digestsOf(second)).toEqual(before);
  expect(await isPaused(two)).toBe(true);
}

describe('a recovery', () => {
  it.each([
    ['the new version', 'serving-new', { recover: true }],
    ['the new version, resumed when the push was killed', 'verified', { recover: true }],
    ['the old version, restored after an interruption', 'serving-old', { fallback: 'filesystem' }],
  ] as const)('loads no other version beside an engine that serves %s', async (_, state, allowed) => {
    await withFleet(async (fleet) => {
      const { one, two, b, c } = fleet;
      const push = 'recover' in allowed ? { weights: b, recover: c } : { weights: b, ...allowed };
      await fleet.left([state, 'quarantined'], push);
      await expectSecondUntouched(fleet, async () => {
        const report = await fleet.recover([one, two]);
        expect(report).toMatchObject({
          outcome: 'quarantined',
          engines: [{ state: state === 'serving-old' ? state : 'serving-new' }, { state: 'quarantined' }],
        });
      });
    });
  });

  it('puts the rest on the version that an engine serves by the record', async () => {
    await withFleet(async (fleet) => {
      const { engines, one, two, b } = fleet;
      const wanted = await digestsOfLoaded(engines[0] as Bench['engines'][number], b);
      await fleet.left(['serving-new', 'quarantined'], { weights: b, fallback: 'filesystem' });
      expect(await fleet.recover([one, two])).toMatchObject({ outcome: 'recovered' });
      expect(await digestsOf(engines[1] as Bench['engines'][number])).toEqual(wanted);
    });
  });

  it.each([
    ['serves the new version', 'serving-new', { recover: true }],
    ['serves the old version', 'serving-old', { fallback: true }],
    ['is paused and untouched', 'paused', { fallback: true }],
  ] as const)('of one engine looks at the others of its push: one %s', async (_, state, allowed) => {
    await withFleet(async (fleet) => {
      const { two, b, c } = fleet;
      const push = 'recover' in allowed ? { recover: c } : { fallback: 'filesystem' as const };
      await fleet.left([state, 'quarantined'], { weights: b, ...push });
      await expectSecondUntouched(fleet, async () => {
        expect(await fleet.recover([two])).toMatchObject({ outcome: 'quarantined' });
      });
    });
  });

  it('names what keeps an engine paused, and what to do', async () => {
    await withFleet(async ({ left, recover, one, two, b }) => {
      await left(['serving-old', 'quarantined'], { weights: b, fallback: 'filesystem' });
      const { notes } = await recover([one, two]);
      expect(notes).toEqual([expect.stringContaining(`nothing was loaded on ${two}: other engines`)]);
      expect(notes[0]).toContain('push to all of them again, or run weightcast recover --from');
    });
  });

  it('of engines that two pushes left takes neither version for the other', async () => {
    await withFleet(async (fleet) => {
      const { one, two, b, c } = fleet;
      const push = { weights: c, fallback: 'filesystem' } as const;
      await fleet.left(['serving-new', 'quarantined'], { weights: b }, 1);
      await fleet.left([null, 'quarantined'], push, 2);
      await expectSecondUntouched(fleet, async () => {
        expect(await fleet.recover([one, two])).toMatchObject({ outcome: 'quarantined' });
      });
    });
  });

  it.each([
    ['was written to since', async (b: string) => utimes(join(b, SHARD), 1, 1)],
    ['the record does not tell from others', async () => undefined],
  ])('does without a directory that %s, and says so', async (why, change) => {
    await withFleet(async (fleet) => {
      const { one, two, b } = fleet;
      const known = why.startsWith('was') ? {} : { identity: undefined };
      await fleet.left(['quarantined', 'quarantined'], { weights: b, ...known, fallback: 'filesystem' });
      await change(b);
      await expectSecondUntouched(fleet, async () => {
        const { outcome, notes } = await fleet.recover([one, two]);
        expect(outcome).toBe('quarantined');
        expect(notes).toContainEqual(expect.stringMatching(`^${b} is not used: .* --from`));
      });
    });
  });

  it('names an engine with wrong bytes that somebody has resumed, and heals it when it is given bytes', async () => {
    await withFleet(async (fleet) => {
      const { engines, one, two, a, b } = fleet;
      const second = engines[1] as Bench['engines'][number];
      await post(two, '/resume');
      await fleet.left(['serving-old', 'quarantined'], { weights: b });
      expect(await fleet.recover([one, two])).toMatchObject({
        outcome: 'quarantined',
        engines: [{ state: 'serving-old' }, { state: 'quarantined', history: [{ reason: RESUMED }] }],
      });
      expect(await fleet.recover([one, two], a)).toMatchObject({ outcome: 'recovered' });
      expect(await postsTo(second)).toEqual(expect.arrayContaining(['/pause', '/collective_rpc', '/resume']));
      expect(await isPaused(two)).toBe(false);
    });
  });

  it('resumes an engine whose pause came late, after the push had given it up', async () => {
    await withFleet(async ({ left, recover, one, two, b }) => {
      await left(['serving-old', 'unknown'], { weights: b });
      expect(await recover([one, two])).toMatchObject({
        outcome: 'recovered',
        found: [expect.stringContaining(`the push of ${b}`)],
      });
      expect(await isPaused(two)).toBe(false);
    });
  });

  it('does as it is told by a directory, and says what serves beside it', async () => {
    await withFleet(async (fleet) => {
      const { engines, one, two, b, c } = fleet;
      await fleet.left(['serving-old', 'verified'], { weights: b });
      const report = await fleet.recover([one, two], c);
      expect(report.outcome).toBe('recovered');
      expect(report.notes).toContainEqual(
        expect.stringMatching(`^${one}: was left alone beside .*weight version`),
      );
      const held = await digestsOf(engines[1] as Bench['engines'][number]);
      expect(held).toEqual(await digestsOfLoaded(engines[0] as Bench['engines'][number], c));
    });
  });
});
