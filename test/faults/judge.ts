/** The invariants, over the facts of a push: pure. DESIGN.md's laws say what they are. */
import type { UpdateReport, UpdateTimeouts } from '../../src/update/types.js';
import type { FaultKind } from './catalogue.js';
import { claimOf, type EngineBefore, type EngineFacts, type Held, type StepFacts } from './facts.js';

export const INVARIANTS = [
  /** An engine serves bytes that are not one whole version, or would die at its next request. */
  'mixed',
  /** An engine answers by other weights than it holds: its prefix cache is stale. */
  'stale',
  /** Two engines that are said to serve, serve two versions. */
  'split',
  /** An engine is paused, or stuck, and nobody was told. */
  'paused',
  /** An engine does not serve what is said that it serves. */
  'claim',
  /** A push returned more than a second after its deadline. */
  'deadline',
  /** A request that makes an engine receive was sent twice. */
  'twice',
  /** The ledger and the engine's own record disagree. */
  'ledger',
  /** Two coordinators drove one fleet at once. */
  'rival',
  /** An undisturbed push that may use files left an engine that lives without the version. */
  'unhealed',
] as const;
export type Invariant = (typeof INVARIANTS)[number];

export interface Violation {
  readonly invariant: Invariant;
  readonly engine: string | null;
  readonly message: string;
}

/** Everything that is wrong after a push. */
export function judge(facts: StepFacts): readonly Violation[] {
  return [
    ...facts.engines.flatMap((engine, index) => judgeEngine(facts, engine, facts.before[index])),
    ...split(facts),
    ...rival(facts),
    ...deadline(facts),
  ];
}

function judgeEngine(facts: StepFacts, engine: EngineFacts, before: EngineBefore | undefined): Violation[] {
  const found: Violation[] = [];
  const add = (invariant: Invariant, message: string): void => {
    found.push({ invariant, engine: engine.url, message });
  };
  const { state, holds, answersBy } = engine;
  const running = engine.alive && !engine.stuck && state !== null && state.paused === null;
  if (running && state.broken) add('mixed', 'it is not paused, and its update session was left unfinished');
  else if (running && holds === 'mixed') add('mixed', 'it serves bytes that are no whole version');
  if (running && !state.broken && answersBy !== null && answersBy !== holds)
    add('stale', `it holds ${holds} and answers by ${answersBy}`);
  for (const path of ['/update_weights', '/init_weight_transfer_engine']) {
    const times = engine.sent.get(path) ?? 0;
    if (times > 1) add('twice', `${path} was sent ${times} times`);
  }
  if (facts.outcome === null) return found;
  judgeClaim(facts, { engine, before, running }, add);
  judgeLedger(facts, engine, add);
  if (
    facts.healing &&
    wasUndisturbed(facts) &&
    canHeal(facts) &&
    !(running && holds === facts.step.version)
  ) {
    add('unhealed', `after an undisturbed push: ${describe(engine)}`);
  }
  return found;
}

/** A machine that stands still disturbs a push like any fault. */
export function wasUndisturbed({ stalledMs }: StepFacts): boolean {
  return stalledMs < 2_000;
}

/** Faults of the NCCL that a process was started with: they last as long as it lives. */
const LASTING: readonly FaultKind[] = [
  'slow-peer',
  'version-mismatch',
  'async-error',
  'peer-dies-in',
  'missing-peer',
];

/** A prime-rl server that receives by NCCL has no other way: where that can't work, nothing heals it. */
function canHeal({ scenario: { backends, transport, steps } }: StepFacts): boolean {
  if (transport !== 'nccl' || !backends.includes('prime-rl')) return true;
  return !steps.some(({ faults }) => faults.some(({ kind }) => LASTING.includes(kind)));
}

interface Case {
  readonly engine: EngineFacts;
  readonly before: EngineBefore | undefined;
  /** It lives, is not stuck and not paused. */
  readonly running: boolean;
}

function judgeClaim(
  facts: StepFacts,
  { engine, before, running }: Case,
  add: (invariant: Invariant, message: string) => void,
): void {
  const claim = claimOf(facts, engine.url);
  // Who dies behind a push that had no more to ask of it, can't be blamed on it.
  if (engine.replaced !== null || diesByItself(facts, engine)) return;
  const wrong = (what: string): void => {
    const silent = engine.alive && (engine.stuck || engine.state?.paused != null);
    add(silent ? 'paused' : 'claim', `${what}, and ${describe(engine)}`);
  };
  switch (claim) {
    case 'new':
      if (!running || engine.holds !== facts.step.version) wrong(`it is said to serve ${facts.step.version}`);
      return;
    case 'old': {
      const old: (Held | null | undefined)[] = [before?.holds, facts.scenario.recover ? 'a' : null];
      if (!running || !old.includes(engine.holds)) wrong(`it is said to serve ${before?.holds}`);
      return;
    }
    case 'untouched': {
      const paused = engine.stuck || engine.state?.paused != null;
      if (paused !== before?.paused || engine.holds !== before.holds) wrong('it is said to be untouched');
      return;
    }
    case 'excluded':
    case 'unknown':
      return;
  }
}

/** One of its workers was made to die. */
function diesByItself({ step, engines }: StepFacts, engine: EngineFacts): boolean {
  const index = engines.indexOf(engine);
  return (
    !engine.alive && step.faults.some((fault) => fault.kind.startsWith('peer-dies') && fault.engine === index)
  );
}

function describe({ alive, stuck, state, holds }: EngineFacts): string {
  if (!alive) return 'it is dead';
  if (stuck) return 'its core is stuck';
  const broken = state?.broken ? 'broken, ' : '';
  return `it is ${broken}${state?.paused == null ? 'serving' : `paused (${state.paused})`} and holds ${holds}`;
}

/** What our own report says beyond the claims. */
function judgeLedger(
  { outcome, step }: StepFacts,
  engine: EngineFacts,
  add: (invariant: Invariant, message: string) => void,
): void {
  const report = outcome?.report;
  const account = report?.engines.find(({ url }) => url === engine.url);
  if (report == null || account === undefined) return;
  const answered = (path: string): number =>
    engine.record.filter((exchange) => exchange.path === path && exchange.status === 200).length;
  const last = account.history.at(-1);
  if (last !== undefined && last.state !== account.state)
    add('ledger', `its history ends with ${last.state}, its state is ${account.state}`);
  if (engine.replaced !== null || !engine.alive || engine.stuck) return;

  if (account.pausedMs !== null && answered('/resume') === 0)
    add('ledger', 'the ledger has a resume that the engine did not answer');
  if (account.state === 'quarantined' && engine.state?.paused === null && !mayServe(account))
    add('ledger', `it is reported as paused, and ${describe(engine)}: ${last?.reason}`);
  if (account.state !== 'serving-new') return;
  const carried = account.transport === 'nccl' ? '/update_weights' : '/collective_rpc';
  if (answered(carried) === 0)
    add(
      'ledger',
      `the ledger says that it received by ${account.transport}, and its record has no ${carried}`,
    );
  if (account.proof?.method === 'digest' && answered('/weight_checker') === 0)
    add('ledger', 'it is proved by digest, and was never asked for one');
  if (account.weightVersion !== null && account.weightVersion !== engine.state?.weightVersion)
    add('ledger', `its weight version is ${engine.state?.weightVersion}, not ${account.weightVersion}`);
  if (account.weightVersion !== null && account.weightVersion !== step.version && !noted(report, account.id))
    add('ledger', `it says weight version ${account.weightVersion}, and nothing in the report says so`);
}

type Account = UpdateReport['engines'][number];

/** Quarantined, and the report says that it may be serving all the same. */
function mayServe({ history }: Account): boolean {
  return history.at(-1)?.reason?.includes('may be serving') ?? false;
}

const noted = (report: UpdateReport, id: string): boolean =>
  report.notes.some((note) => note.startsWith(id) && note.includes('weight version'));

/** Engines that are said to serve must serve one version. */
function split(facts: StepFacts): Violation[] {
  if (facts.outcome === null) return [];
  const served = new Set<Held>();
  for (const engine of facts.engines) {
    if (!['new', 'old'].includes(claimOf(facts, engine.url)) || engine.replaced !== null) continue;
    if (engine.answersBy !== null) served.add(engine.answersBy);
  }
  if (served.size < 2) return [];
  const message = `engines that are said to serve, serve ${[...served].sort().join(' and ')}`;
  return [{ invariant: 'split', engine: null, message }];
}

function rival({ rivalLetIn }: StepFacts): Violation[] {
  if (!rivalLetIn) return [];
  return [{ invariant: 'rival', engine: null, message: 'a second coordinator was let in during the push' }];
}

const GRACE_MS = 1_000;

/**
 * What a push may take: the deadlines of its phases, one after another. Our own reports say how long each phase took, so each is held against its own.
 */
function deadline({ scenario, outcome, tookMs, stalledMs, healing }: StepFacts): Violation[] {
  if (outcome === null || healing) return [];
  const { timeouts } = scenario;
  const graceMs = GRACE_MS + stalledMs;
  const found: Violation[] = [];
  const add = (message: string): void => {
    found.push({ invariant: 'deadline', engine: null, message });
  };
  for (const { phase, ms } of outcome.report?.phases ?? []) {
    const limitMs = PHASE_LIMITS[phase](timeouts);
    if (ms > limitMs + graceMs) add(`${phase} took ${Math.round(ms)} ms of ${limitMs}`);
  }
  const foundMs = scenario.found === null ? 0 : timeouts.discovery;
  const totalMs = Object.values(PHASE_LIMITS).reduce((sum, limit) => sum + limit(timeouts), foundMs);
  if (tookMs > totalMs + graceMs) add(`the push took ${Math.round(tookMs)} ms of ${totalMs}`);
  return found;
}

type Phase = UpdateReport['phases'][number]['phase'];

/** Milliseconds; a phase with several calls in a row has the sum of their deadlines. */
const PHASE_LIMITS: Readonly<Record<Phase, (timeouts: UpdateTimeouts) => number>> = {
  // A restarted engine is met afresh: version, then routes.
  preflight: ({ probe }) => 3 * probe,
  rendezvous: ({ rendezvous }) => rendezvous,
  // The first frames are read.
  stage: ({ update }) => update,
  pause: ({ pause }) => pause,
  transfer: ({ update }) => update,
  verify: ({ checksum }) => checksum,
  // Once gently, once with the running requests.
  reset: ({ pause }) => 2 * pause,
  // Its end: the weight version is read back.
  resume: ({ resume, probe }) => resume + probe,
  fingerprint: ({ score, pause, probe }) => score + pause + probe,
  heal: ({ pause, update, checksum }) => 3 * pause + update + checksum,
};
