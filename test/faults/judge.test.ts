import { expect, it } from 'vitest';
import type { EngineState, RecordedExchange } from '../../src/testing/index.js';
import type { UpdateReport } from '../../src/update/types.js';
import type { Claim } from './coordinator.js';
import type { EngineFacts, StepFacts } from './facts.js';
import { INVARIANTS, judge } from './judge.js';
import { planScenario } from './planner.js';
import type { Fault, Scenario } from './scenario.js';

const SERVING: EngineState = {
  paused: null,
  updating: false,
  broken: false,
  joined: true,
  dead: false,
  pending: 0,
  weightVersion: 'b',
};

const exchange = (path: string): RecordedExchange => ({
  method: 'POST',
  path,
  query: '',
  contentType: null,
  requestBody: '',
  status: 200,
  responseBody: null,
  receivedAt: 0,
  answeredAt: 1,
});

const RECORD = ['/pause', '/update_weights', '/resume'].map(exchange);

function engine(
  parts: Partial<Omit<EngineFacts, 'state'>> & { state?: Partial<EngineState> } = {},
): EngineFacts {
  return {
    url: 'http://one',
    alive: true,
    stuck: false,
    holds: 'b',
    answersBy: 'b',
    replaced: null,
    record: RECORD,
    sent: new Map([['/update_weights', 1]]),
    ...parts,
    state: { ...SERVING, ...parts.state },
  };
}

type Account = UpdateReport['engines'][number];

function report(account: Partial<Account>, phases: UpdateReport['phases'] = []): UpdateReport {
  const engines = [
    {
      id: 'http://one',
      url: 'http://one',
      backend: 'vllm',
      engineVersion: '0.32.0',
      workers: 1,
      state: 'serving-new',
      transport: 'nccl',
      history: [{ state: account.state ?? 'serving-new', atMs: 1, reason: null }],
      pausedMs: 1,
      weightVersion: 'b',
      proof: null,
      error: null,
      ...account,
    } as Account,
  ];
  return { engines, phases, notes: [] } as unknown as UpdateReport;
}

function facts(parts: Partial<StepFacts>, claim: Claim = 'new', account: Partial<Account> = {}): StepFacts {
  const claims = new Map<string, Claim>([
    ['http://one', claim],
    ['http://two', 'new'],
  ]);
  return {
    scenario: { ...planScenario(1), recover: false },
    step: { version: 'b', faults: [] },
    index: 0,
    healing: false,
    before: [{ holds: 'a', paused: false }],
    engines: [engine()],
    outcome: { ok: true, claims, error: null, report: report(account) },
    rivalLetIn: false,
    struck: [],
    tookMs: 100,
    stalledMs: 0,
    ...parts,
  };
}

const found = (given: StepFacts): string[] => judge(given).map(({ invariant }) => invariant);

it('finds nothing wrong with a fleet that serves what the report says', () => {
  expect(judge(facts({}))).toEqual([]);
});

const excluded = { state: 'quarantined', transport: null, pausedMs: null } as const;

it.each<[string, readonly string[], StepFacts]>([
  ['serves a mix', ['mixed', 'claim'], facts({ engines: [engine({ holds: 'mixed', answersBy: 'mixed' })] })],
  ['would die', ['mixed'], facts({ engines: [engine({ state: { broken: true } })] })],
  ['answers from an old cache', ['stale'], facts({ engines: [engine({ answersBy: 'a' })] })],
  ['is paused unsaid', ['paused'], facts({ engines: [engine({ state: { paused: 'keep' } })] })],
  [
    'is stuck unsaid',
    ['paused'],
    facts({ engines: [engine({ stuck: true, holds: null, answersBy: null })] }),
  ],
  ['still serves the old version', ['claim'], facts({ engines: [engine({ holds: 'a', answersBy: 'a' })] })],
  [
    'is said to be old and is new',
    ['claim'],
    facts({}, 'old', { state: 'serving-old', transport: null, weightVersion: null }),
  ],
  ['was touched', ['claim'], facts({}, 'untouched')],
  [
    'got a receive twice',
    ['twice'],
    facts({ engines: [engine({ sent: new Map([['/update_weights', 2]]) })] }),
  ],
  [
    'has no record of the receive',
    ['ledger'],
    facts({ engines: [engine({ record: [exchange('/resume')] })] }),
  ],
  ['serves, and is reported as paused', ['ledger'], facts({}, 'excluded', excluded)],
  ['says another weight version', ['ledger'], facts({}, 'new', { weightVersion: '7' })],
  [
    'is left behind by a push that may heal',
    ['unhealed'],
    facts({ healing: true, engines: [engine({ holds: 'a', answersBy: 'a' })] }, 'unknown'),
  ],
])('sees an engine that %s', (_, invariants, given) => {
  expect(new Set(found(given))).toEqual(new Set(given.healing ? [...invariants] : invariants));
});

it('sees a fleet that is said to serve, and serves two versions', () => {
  const two = engine({ url: 'http://two', holds: 'c', answersBy: 'c' });
  expect(found(facts({ engines: [engine(), two] }))).toContain('split');
});

it('sees a phase that outlasts its deadline by more than a second, less what this process stood still', () => {
  const late = report({}, [{ phase: 'pause', ms: 1_600 }]);
  const slow = facts({});
  const given = {
    ...slow,
    outcome: { ...(slow.outcome as NonNullable<StepFacts['outcome']>), report: late },
  };
  expect(found(given)).toEqual(['deadline']);
  expect(found({ ...given, stalledMs: 300 })).toEqual([]);
  expect(found(facts({ tookMs: 60_000 }))).toEqual(['deadline']);
});

it('sees a second coordinator that was let in', () => {
  expect(found(facts({ rivalLetIn: true }))).toEqual(['rival']);
});

it('asks for no healing where the only way is one that lasts broken', () => {
  const plan = planScenario(1);
  const healing = (kind: 'slow-peer' | 'reset') => {
    const fault = { ...(plan.steps.flatMap(({ faults }) => faults)[0] as Fault), kind };
    const scenario: Scenario = {
      ...plan,
      ...{ recover: false, transport: 'nccl', engines: 1, backends: ['prime-rl'] },
      steps: [{ version: 'b', faults: [fault] }],
    };
    const old = [engine({ holds: 'a', answersBy: 'a' })];
    return found(facts({ healing: true, scenario, engines: old }, 'unknown'));
  };
  expect(healing('slow-peer')).not.toContain('unhealed');
  expect(healing('reset')).toContain('unhealed');
});

it('blames nobody for an engine that was killed, or that a killed push left paused', () => {
  const dead = engine({ alive: false, holds: null, answersBy: null, replaced: 'killed' });
  expect(found(facts({ engines: [dead] }))).toEqual([]);
  const paused = engine({ holds: 'mixed', answersBy: null, state: { paused: 'keep', broken: true } });
  expect(found(facts({ engines: [paused], outcome: null }))).toEqual([]);
});

it('has a test above for each invariant', () => {
  expect([...INVARIANTS].sort()).toEqual(
    ['claim', 'deadline', 'ledger', 'mixed', 'paused', 'rival', 'split', 'stale', 'twice', 'unhealed'].sort(),
  );
});
