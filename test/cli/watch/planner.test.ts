import { describe, expect, test } from 'vitest';
import {
  type Listing,
  NOTHING_PUSHED,
  planPush,
  type Replaced,
  type Step,
  versionOf,
} from '../../../src/cli/watch/planner.js';

const step = (n: number, markedMs = n * 1000): Step => ({
  kind: 'step',
  step: n,
  path: `/o/step_${n}`,
  markedMs,
});
const folder = (identity: string): Replaced => ({ kind: 'replaced', path: '/o', identity, writtenMs: 0 });
const listing = (over: Partial<Listing> = {}): Listing => ({
  newest: null,
  unmarked: [],
  lastStepExists: true,
  checkpoint: null,
  ...over,
});

describe('steps', () => {
  const gone = { lastStepExists: false };
  test.each<[string, Step | null, Partial<Listing>, number | null]>([
    ['nothing is there', null, {}, null],
    ['the first look finds one: it is pushed', null, { newest: step(7) }, 7],
    ['a higher one appeared', step(7), { newest: step(8) }, 8],
    ['several appeared: straight to the newest', step(7), { newest: step(30) }, 30],
    ['nothing new', step(7), { newest: step(7) }, null],
    ['the same step was written again', step(7), { newest: step(7, 9000) }, 7],
    ['the last one was removed, an older one is left', step(7), { newest: step(6), ...gone }, null],
    ['all were removed', step(7), { newest: null, ...gone }, null],
    ['the trainer went back and wrote an earlier step', step(7), { newest: step(2, 9000), ...gone }, 2],
    [
      'an earlier step was marked late while the newest is still there',
      step(7),
      { newest: step(2, 9000) },
      null,
    ],
  ])('%s', (_, last, found, expected) => {
    const { push, state } = planPush(listing(found), { last, seen: null });
    expect(push?.kind === 'step' ? push.step : null).toBe(expected);
    expect(state.last).toBe(push ?? last);
  });

  test('a version is tried once, however it ended', () => {
    const found = listing({ newest: step(1) });
    const first = planPush(found, NOTHING_PUSHED);
    expect(planPush(found, first.state).push).toBeNull();
  });

  test('steps go before a checkpoint in the folder itself', () => {
    const found = listing({ newest: step(1), checkpoint: folder('a') });
    const first = planPush(found, NOTHING_PUSHED);
    expect(first.push).toEqual(step(1));
    expect(planPush(found, first.state).push).toBeNull();
    expect(planPush(found, planPush(found, first.state).state).push).toBeNull();
  });
});

/** Identities seen one after the other, and those that were pushed at each look. */
function looks(identities: readonly (string | null)[]): (string | null)[] {
  let state = NOTHING_PUSHED;
  return identities.map((identity) => {
    const plan = planPush(listing({ checkpoint: identity === null ? null : folder(identity) }), state);
    state = plan.state;
    return plan.push?.kind === 'replaced' ? plan.push.identity : null;
  });
}

describe('a checkpoint that is replaced', () => {
  test.each<[string, (string | null)[], (string | null)[]]>([
    ['is pushed once it held still for one interval', ['a', 'a', 'a', 'a'], [null, 'a', null, null]],
    ['is pushed again when it is another', ['a', 'a', 'b', 'b', 'b'], [null, 'a', null, 'b', null]],
    ['is not pushed while it changes', ['a', 'b', 'c', 'c'], [null, null, null, 'c']],
    ['may be absent between two renames', ['a', 'a', null, 'b', 'b'], [null, 'a', null, null, 'b']],
    [
      'is not pushed again after a moment of absence',
      ['a', 'a', null, 'a', 'a'],
      [null, 'a', null, null, null],
    ],
    [
      'counts as new when the one before comes back',
      ['a', 'a', 'b', 'b', 'a', 'a'],
      [null, 'a', null, 'b', null, 'a'],
    ],
  ])('%s', (_, identities, pushed) => {
    expect(looks(identities)).toEqual(pushed);
  });
});

test('a version is named by its step, or by when it was written', () => {
  expect(versionOf(step(42))).toBe('42');
  expect(versionOf({ ...folder('a'), writtenMs: Date.UTC(2026, 0, 2, 3, 4, 5) })).toBe(
    '2026-01-02T03:04:05.000Z',
  );
});
