/** How the ends of a fleet are counted. */
import { expect, it } from 'vitest';
import { type Ended, verdictOf } from '../../bench/peers/fault-logic/verdict.js';
import type { EngineState } from '../../src/testing/index.js';
import type { EngineFacts } from '../faults/facts.js';

const STATE: EngineState = {
  paused: null,
  updating: false,
  broken: false,
  joined: true,
  dead: false,
  pending: 0,
  weightVersion: 'default',
};

function ended(
  changes: Partial<Omit<EngineFacts, 'state'>> & {
    readonly state?: Partial<EngineState>;
    readonly named?: boolean;
    readonly lostToFault?: boolean;
  } = {},
): Ended {
  const { named = false, lostToFault = false, state, ...facts } = changes;
  return {
    named,
    lostToFault,
    engine: {
      url: 'http://engine',
      alive: true,
      stuck: false,
      holds: 'b',
      answersBy: 'b',
      replaced: null,
      record: [],
      sent: new Map(),
      ...facts,
      state: { ...STATE, ...state },
    },
  };
}

const PAUSED = { state: { paused: 'keep' } } as const;

it.each([
  ['every engine serves the new version', [ended(), ended()], 'new'],
  ['every engine serves the old one', [ended({ holds: 'a' }), ended({ holds: 'a' })], 'old'],
  ['engines serve two versions', [ended(), ended({ holds: 'a' })], 'mixed'],
  ['an engine serves bytes of no version', [ended({ holds: 'mixed' })], 'mixed'],
  ['an engine is gone', [ended(), ended({ alive: false })], 'dead'],
  ['an engine dies of its next request', [ended({ state: { broken: true } })], 'dead'],
  [
    'a broken engine that is paused is not dead',
    [ended({ state: { paused: 'keep', broken: true } })],
    'stuck',
  ],
  ['an engine is paused and nobody said so', [ended(), ended(PAUSED)], 'stuck'],
  [
    'an engine hangs in an update and nobody said so',
    [ended(), ended({ stuck: true, state: { updating: true } })],
    'stuck',
  ],
  ['an engine still looks for a store', [ended(), ended({ stuck: true, holds: null })], 'new'],
  ['an engine is paused and was named', [ended(), ended({ ...PAUSED, named: true })], 'held'],
  [
    'one of two is paused and was named, the other was not',
    [ended(PAUSED), ended({ ...PAUSED, named: true })],
    'stuck',
  ],
  ['a paused engine holds another version', [ended(), ended({ ...PAUSED, holds: 'a', named: true })], 'held'],
  ['the fault killed an engine', [ended(), ended({ alive: false, lostToFault: true })], 'new'],
  [
    'the fault hangs in an engine',
    [ended({ holds: 'a' }), ended({ stuck: true, lostToFault: true, state: { updating: true } })],
    'old',
  ],
  [
    'the fault put another process in its place',
    [ended(), ended({ holds: 'a', replaced: 'restarted' })],
    'new',
  ],
  ['the fault struck an engine that is paused now', [ended({ ...PAUSED, lostToFault: true })], 'stuck'],
] as const)('%s', (_, fleet, verdict) => {
  expect(verdictOf(fleet, 'b')).toBe(verdict);
});
