/** Thousands of seeded runs against reference engines: `npm run test:faults -- --runs 3000 --seed 1`. */
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { commandLine, wrongUsage } from '../command-line.mjs';
import { LONE_PAIRS, PAIRS, type Pair } from './catalogue.js';
import type { CoordinatorFactory } from './coordinator.js';
import { canStrike } from './dialect.js';
import { explain } from './explain.js';
import { judge } from './judge.js';
import { expectNoReuse } from './own-faults.js';
import { planScenario } from './planner.js';
import { Pool } from './pool.js';
import { type RunOptions, runScenario } from './runner.js';
import { FLEETS, type Fleet, type Scenario } from './scenario.js';
import { Stalls } from './stalls.js';
import { type RunResult, Tally } from './tally.js';

const { values } = commandLine('test:faults', {
  about: 'Seeded runs of updates with faults in them, against reference engines.',
  options: {
    runs: { number: 300, text: 'how many' },
    seed: { number: 1, text: 'the first' },
    only: { value: 'KIND/PHASE', text: 'faults: KIND, /PHASE or both' },
    fleet: { value: 'NAME', text: `of engines: ${FLEETS.join(', ')}` },
    replay: { number: null, text: 'the seed of one run, told in full' },
    lanes: { number: 6, text: 'side by side' },
    coordinator: { value: 'MODULE', text: 'what is tried instead of weightcast' },
    verbose: { text: 'tells of every run' },
  },
});

const PROGRESS_MS = 10_000;
/** Runs of one shape follow one another, since engines are of one shape; of so many runs at a time, so that an early end has seen everything. */
const BATCH = 600;

let stopped = false;
process.once('SIGINT', () => {
  stopped = true;
  process.stderr.write('stopping after the runs that go on; again to stop now\n');
  process.once('SIGINT', () => process.exit(130));
});

const fleets = fleetsOf(values.fleet);
const pairs = pairsOf(values.only).filter((pair) =>
  fleets.some((fleet) => fleet === 'mixed' || canStrike(pair, fleet)),
);
const replay = values.replay ?? null;
const first = replay ?? values.seed;
const runs = replay === null ? values.runs : 1;
expectNoReuse();
const pool = await Pool.open();
const stalls = new Stalls();
const tally = new Tally();
const began = performance.now();
const progress = setInterval(() => process.stderr.write(`${tally.summary()}\n`), PROGRESS_MS);
try {
  const options: RunOptions = { pool, stalls, ...(await factoryOf(values.coordinator)) };
  for (let from = first; from < first + runs && !stopped; from += BATCH) {
    const count = Math.min(BATCH, first + runs - from);
    const scenarios = Array.from({ length: count }, (_, index) => planScenario(from + index, pairs, fleets));
    await inLanes(scenarios.sort(byShape), options);
  }
} finally {
  clearInterval(progress);
  stalls.close();
  await pool.close();
}
const seconds = (performance.now() - began) / 1000;
process.stdout.write(`${tally.table()}\n`);
process.stdout.write(`pushes that were disturbed: ${tally.outcomes()}\n`);
process.stdout.write(
  `${pool.started} engines started, ${Math.round(stalls.totalMs)} ms stalled, ${seconds.toFixed(1)} s\n`,
);
process.stdout.write(`${tally.summary()}\n`);
process.exitCode = stopped ? 130 : tally.failed.length > 0 ? 1 : 0;

async function inLanes(scenarios: readonly Scenario[], options: RunOptions): Promise<void> {
  const queue = [...scenarios];
  const lane = async (): Promise<void> => {
    for (let scenario = queue.shift(); scenario !== undefined && !stopped; scenario = queue.shift()) {
      const result = await runOne(scenario, options);
      tally.add(result);
      const failed = result.violations.length > 0 || result.error !== null;
      if (failed || values.verbose || replay !== null)
        process.stdout.write(`${explain(scenario, result, commandOf(scenario))}\n`);
    }
  };
  await Promise.all(Array.from({ length: values.lanes }, lane));
}

async function runOne(scenario: Scenario, options: RunOptions): Promise<RunResult> {
  const { seed } = scenario;
  try {
    const first = await judged(scenario, options);
    // A busy machine makes calls late in ways that this process can't see: lateness counts when it comes again.
    return onlyLate(first) ? await judged(scenario, options) : first;
  } catch (error) {
    return { seed, facts: [], violations: [], error };
  }
}

async function judged(scenario: Scenario, options: RunOptions): Promise<RunResult> {
  const facts = await runScenario(scenario, options);
  const violations = facts.flatMap((step) =>
    judge(step).map((violation) => ({ step: step.index, violation })),
  );
  return { seed: scenario.seed, facts, violations, error: null };
}

function onlyLate({ violations }: RunResult): boolean {
  return violations.length > 0 && violations.every(({ violation }) => violation.invariant === 'deadline');
}

function commandOf({ seed }: Scenario): string {
  const only = values.only === undefined ? '' : ` --only ${values.only}`;
  const fleet = values.fleet === undefined ? '' : ` --fleet ${values.fleet}`;
  return `npm run test:faults -- --replay ${seed}${only}${fleet}`;
}

function byShape(a: Scenario, b: Scenario): number {
  const shape = ({ backends, vllm, workers, layers }: Scenario) =>
    `${[...new Set(backends)].sort()} ${vllm} ${workers} ${layers}`;
  return shape(a) < shape(b) ? -1 : shape(a) > shape(b) ? 1 : a.seed - b.seed;
}

function pairsOf(only: string | undefined): readonly Pair[] {
  // Others know of no second coordinator, and only of stock vLLM.
  const possible = values.coordinator === undefined ? PAIRS : LONE_PAIRS;
  if (only === undefined) return possible;
  const [kind = '', phase = ''] = only.split('/');
  const found = possible.filter(
    (pair) => (kind === '' || pair.kind === kind) && (phase === '' || pair.phase === phase),
  );
  if (found.length === 0) wrongUsage(`--only ${only}: there is no such kind and phase`);
  return found;
}

function fleetsOf(named: string | undefined): readonly Fleet[] {
  if (values.coordinator !== undefined) return ['vllm'];
  if (named === undefined) return FLEETS;
  const fleet = FLEETS.find((known) => known === named);
  if (fleet === undefined) wrongUsage(`--fleet ${named}: there are ${FLEETS.join(', ')}`);
  return [fleet];
}

async function factoryOf(module: string | undefined): Promise<{ factory?: CoordinatorFactory }> {
  if (module === undefined) return {};
  const loaded = (await import(pathToFileURL(resolve(module)).href)) as { default: CoordinatorFactory };
  return { factory: loaded.default };
}
