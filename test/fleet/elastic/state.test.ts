import { expect, test } from 'vitest';
import { elasticMetrics, prometheusText } from '../../../src/fleet/elastic/metrics.js';
import {
  advance,
  type Desired,
  EMPTY_POOL,
  type LeftWeights,
  type PoolEvent,
  type PoolState,
  type Seen,
  wish,
} from '../../../src/fleet/elastic/state.js';

const POLICY = { failures: 3, syncAttempts: 2 };
const V1: Desired = { weights: { directory: '/out/step_1', version: '1', identity: null }, adapters: [] };
const V2: Desired = { weights: { directory: '/out/step_2', version: '2', identity: null }, adapters: [] };
const LORA: Desired = { weights: null, adapters: [{ name: 'policy-v7', path: '/lora/step_7' }] };

const seen = (changes: Partial<Seen> = {}): Seen => ({
  ...{ processStart: 100, weightVersion: null, paused: false, adapters: null },
  ...changes,
});
const members = (...ids: readonly string[]): PoolEvent => ({
  kind: 'members',
  members: ids.map((id) => ({ id, identity: null })),
});
const answered = (changes: Partial<Seen> = {}, id = 'a'): PoolEvent => ({
  kind: 'answered',
  id,
  seen: seen(changes),
});
const silent: PoolEvent = { kind: 'silent', id: 'a', why: 'no answer' };
const synced = (to: Desired): PoolEvent => ({ kind: 'synced', id: 'a', to });
const left = (weights: LeftWeights): PoolEvent => ({ kind: 'left', id: 'a', weights, quarantined: null });
const failed: PoolEvent = { kind: 'sync-failed', id: 'a', why: 'disk full', counts: true };

const run = (desired: Desired | null, ...events: readonly PoolEvent[]): PoolState =>
  events.reduce((state, event) => advance(state, event, POLICY), { ...EMPTY_POOL, desired });
const stateOf = (state: PoolState, id = 'a') => state.engines.get(id)?.state;

test('an engine is ready once it answers, where the fleet is on no version yet', () => {
  expect(stateOf(run(null, members('a')))).toBe('discovering');
  expect(stateOf(run(null, members('a'), answered()))).toBe('ready');
});

test('a newcomer is not ready before it was brought to the version of the fleet', () => {
  const newcomer = run(V1, members('a'), answered());
  expect(stateOf(newcomer)).toBe('syncing');
  expect(stateOf(advance(newcomer, synced(V1), POLICY))).toBe('ready');
});

test('one that was brought to the version before is not ready either', () => {
  expect(stateOf(run(V2, members('a'), answered(), synced(V1)))).toBe('syncing');
});

test('one that says the version itself needs nothing', () => {
  expect(stateOf(run(V1, members('a'), answered({ weightVersion: '1' })))).toBe('ready');
});

test('one failed probe takes nobody out, three do, and an answer brings it back', () => {
  const ready = [members('a'), answered()];
  expect(stateOf(run(null, ...ready, silent))).toBe('ready');
  expect(stateOf(run(null, ...ready, silent, silent, answered(), silent, silent))).toBe('ready');
  const out = run(null, ...ready, silent, silent, silent);
  expect(stateOf(out)).toBe('unhealthy');
  expect(stateOf(advance(out, answered(), POLICY))).toBe('ready');
});

test('an engine that restarted under its address is brought to the version again', () => {
  const ready = [members('a'), answered(), synced(V1)];
  expect(stateOf(run(V1, ...ready, answered()))).toBe('ready');
  expect(stateOf(run(V1, ...ready, answered({ processStart: 200 })))).toBe('syncing');
});

test('another instance under the same address is a newcomer', () => {
  const as = (identity: string): PoolEvent => ({ kind: 'members', members: [{ id: 'a', identity }] });
  const state = run(V1, as('ns/c/1'), answered({ processStart: null }), synced(V1), as('ns/c/2'));
  expect(stateOf(state)).toBe('discovering');
  expect(stateOf(advance(state, answered({ processStart: null }), POLICY))).toBe('syncing');
});

test('a version that is gone tells a restart where the process does not', () => {
  const at = (weightVersion: string) => answered({ processStart: null, weightVersion });
  expect(stateOf(run(V1, members('a'), at('1'), at('initial')))).toBe('syncing');
});

test('a version that somebody else gave the same process is not fought over', () => {
  const state = run(V1, members('a'), answered({ weightVersion: '1' }), answered({ weightVersion: '9' }));
  expect(stateOf(state)).toBe('quarantined');
  expect(state.engines.get('a')?.reason).toContain('somebody else');
});

test('an adapter is looked for at every look: a server that came back has none', () => {
  const has = answered({ adapters: [{ name: 'policy-v7', path: '/lora/step_7' }] });
  expect(stateOf(run(LORA, members('a'), answered({ adapters: [] })))).toBe('syncing');
  expect(stateOf(run(LORA, members('a'), has))).toBe('ready');
  expect(stateOf(run(LORA, members('a'), has, answered({ adapters: [] })))).toBe('syncing');
  expect(
    stateOf(run(LORA, members('a'), answered({ adapters: [{ name: 'policy-v7', path: '/other' }] }))),
  ).toBe('syncing');
});

test('syncs that go on failing quarantine an engine, until the next version', () => {
  const once = run(V1, members('a'), answered(), failed);
  expect(stateOf(once)).toBe('syncing');
  const twice = advance(once, failed, POLICY);
  expect(stateOf(twice)).toBe('quarantined');
  expect(stateOf(advance(twice, answered(), POLICY))).toBe('quarantined');
  expect(stateOf(wish(twice, V2))).toBe('syncing');
  expect(stateOf(advance(twice, answered({ processStart: 200 }), POLICY))).toBe('syncing');
});

test('a sync that found the engine busy is not counted', () => {
  const busy: PoolEvent = { ...failed, counts: false } as PoolEvent;
  expect(stateOf(run(V1, members('a'), answered(), busy, busy, busy))).toBe('syncing');
});

test('a paused engine is not ready', () => {
  expect(stateOf(run(null, members('a'), answered({ paused: true })))).toBe('unhealthy');
});

test('one that sleeps is not ready, and is as it was when it wakes', () => {
  const asleep = run(V1, members('a'), answered(), synced(V1), answered({ sleep: 'asleep' }));
  expect(asleep.engines.get('a')).toMatchObject({
    state: 'unhealthy',
    reason: expect.stringContaining('sleeps'),
  });
  expect(stateOf(advance(asleep, answered({ sleep: 'awake' }), POLICY))).toBe('ready');
});

test('one that slept without its weights is not believed its tag: the next version brings it back, a tag of somebody else, or a restart', () => {
  const tagged = { weightVersion: '1' };
  const woken = run(
    V1,
    ...[members('a'), answered(tagged), answered({ ...tagged, sleep: 'emptied' })],
    answered({ ...tagged, sleep: 'awake' }),
  );
  expect(woken.engines.get('a')).toMatchObject({
    state: 'quarantined',
    reason: expect.stringContaining('discarded'),
  });
  const then = (desired: Desired, ...events: readonly PoolEvent[]) =>
    stateOf(events.reduce((state, event) => advance(state, event, POLICY), wish(woken, desired)));
  expect(then(V1, answered(tagged))).toBe('quarantined');
  expect(then(V2, answered(tagged))).toBe('syncing');
  expect(then(V2, left('desired'))).toBe('ready');
  expect(then(V1, answered({ ...tagged, processStart: 200, weightVersion: null }))).toBe('syncing');
  expect(then(V1, answered({ weightVersion: '0' }), answered(tagged))).toBe('ready');
});

test('an engine that left is forgotten, and its late answer with it', () => {
  const state = run(null, members('a', 'b'), answered(), members('b'), answered());
  expect([...state.engines.keys()]).toEqual(['b']);
});

test('an update that failed leaves everybody what it was: a newcomer is none of the ready, a ready one has nothing to load', () => {
  expect(stateOf(run(V1, members('a'), answered(), left('kept')))).toBe('syncing');
  expect(stateOf(run(V1, members('a'), answered(), synced(V1), left('kept')))).toBe('ready');
  expect(stateOf(run(V1, members('a'), answered({ weightVersion: '1' }), left('kept')))).toBe('ready');
  expect(stateOf(run(null, members('a'), answered(), left('kept')))).toBe('ready');
  expect(stateOf(run(V1, members('a'), answered(), failed, failed, left('kept')))).toBe('quarantined');
});

test('an engine that an update brought to the version, or left with nobody knows what, is judged by that', () => {
  expect(stateOf(run(V1, members('a'), answered(), left('desired')))).toBe('ready');
  expect(stateOf(run(V1, members('a'), answered(), synced(V1), left('unknown')))).toBe('syncing');
});

test('an adapter lifts no quarantine, and gives nobody the weights', () => {
  const out = run(V1, members('a'), answered(), failed, failed);
  const more: Desired = { ...V1, adapters: LORA.adapters };
  expect(stateOf(wish(out, more))).toBe('quarantined');
  const given = (state: PoolState) => advance(state, { kind: 'adapters', id: 'a' }, POLICY);
  expect(stateOf(given({ ...out, desired: more }))).toBe('quarantined');
  expect(stateOf(given(run(more, members('a'), answered())))).toBe('syncing');
  expect(stateOf(given(run(more, members('a'), answered(), synced(V1))))).toBe('ready');
});

test('where an engine lists no adapters of its own, what it was given counts, until it restarts', () => {
  const given = [members('a'), answered(), synced(LORA)];
  expect(stateOf(run(LORA, members('a'), answered()))).toBe('syncing');
  expect(stateOf(run(LORA, ...given, answered()))).toBe('ready');
  expect(stateOf(run(LORA, ...given, answered({ processStart: 200 })))).toBe('syncing');
});

test('new weights take no adapters away, and give none', () => {
  const both: Desired = { ...V1, adapters: LORA.adapters };
  const has = answered({ adapters: LORA.adapters });
  expect(stateOf(run(both, members('a'), has, left('desired')))).toBe('ready');
  expect(stateOf(run(both, members('a'), answered({ adapters: [] }), left('desired')))).toBe('syncing');
});

test('a process that does not say its start once is still told from the next one', () => {
  const once = [members('a'), answered(), synced(V1), answered({ processStart: null })];
  expect(stateOf(run(V1, ...once))).toBe('ready');
  expect(stateOf(run(V1, ...once, answered({ processStart: 200 })))).toBe('syncing');
});

test('one that was away and does not say that it is the same process is brought to the version again', () => {
  const anonymous = answered({ processStart: null });
  const away = [members('a'), anonymous, synced(V1), silent, silent, silent];
  expect(stateOf(run(V1, ...away))).toBe('unhealthy');
  expect(stateOf(run(V1, ...away, anonymous))).toBe('syncing');
  expect(stateOf(run(V1, ...away, answered({ processStart: null, weightVersion: '1' })))).toBe('ready');
});

test('nobody leaves quarantine who does not say that it is not paused', () => {
  const out = run(V1, members('a'), answered(), failed, failed);
  const says = (paused: boolean | null) => advance(out, answered({ paused, weightVersion: '1' }), POLICY);
  expect(stateOf(says(null))).toBe('quarantined');
  expect(stateOf(says(false))).toBe('ready');
});

test('metrics have the names of prime-rl, and Prometheus gets the same numbers', () => {
  const state = run(V1, members('a', 'b'), answered({ weightVersion: '1' }));
  expect(elasticMetrics(state)).toEqual({
    'elastic/num_servers': 2,
    'elastic/num_ready_servers': 1,
    'elastic/desired_step': 1,
  });
  const lines = prometheusText(state).split('\n');
  expect(lines).toContain('weightcast_elastic_num_ready_servers 1');
  expect(lines).toContain('weightcast_elastic_server_state{server="b",state="discovering"} 1');
  expect(elasticMetrics(EMPTY_POOL)).not.toHaveProperty('elastic/desired_step');
});
