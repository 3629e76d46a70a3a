/** The same faults against weightcast and against the logic of the peers: `npm run bench:faults -- --runs 500 --seed 1`. */
import { join } from 'node:path';
import { commandLine } from '../../../test/command-line.mjs';
import { pairName } from '../../../test/faults/catalogue.js';
import { Pool } from '../../../test/faults/pool.js';
import { runScenario } from '../../../test/faults/runner.js';
import { Stalls } from '../../../test/faults/stalls.js';
import { type Contestant, contestants } from './contestants.js';
import { type Run, type RunEnd, writeFaultResults } from './results.js';
import { afterFault, afterRecovery, verdictOf } from './verdict.js';

const { values } = commandLine('bench:faults', {
  about: 'The same faults against weightcast and against the logic of the peers.',
  options: {
    runs: { number: 500, text: 'seeds' },
    seed: { number: 1, text: 'the first' },
    lanes: { number: 6, text: 'side by side' },
    'ms-per-second': { number: 10, text: "a second of the peers' clock" },
    'shortest-ms': { number: 1500, text: "the shortest of the peers' timeouts" },
    only: { value: 'NAME,…', text: 'of the contestants' },
    results: { value: 'DIR', preset: 'bench/results', text: 'where they are written' },
    minutes: { number: 1000, text: 'no seed is begun after that; only whole seeds count' },
    verbose: { text: 'what each ended as' },
  },
});

const pace = { msPerSecond: values['ms-per-second'], shortestMs: values['shortest-ms'] };
const first = values.seed;
const wanted = values.only?.split(',');
const field = contestants(pace).filter(({ name }) => wanted?.includes(name) ?? true);
const began = performance.now();
const pool = await Pool.open();
process.env['WEIGHTCAST_STATE_DIR'] = join(pool.folder, 'state');
const stalls = new Stalls();
const done: Run[] = [];
/** Seeds whose engines did not start: they count for nobody. */
const unstarted: number[] = [];
let stopped = false;
process.once('SIGINT', () => {
  stopped = true;
});

/** Kinds of faults are dealt to seeds in turn; so spread, a run that is cut short has seen them all. */
const STRIDE = 97;
const { runs } = values;
const seeds = Array.from({ length: runs }, (_, index) => index)
  .sort((a, b) => ((a * STRIDE) % runs) - ((b * STRIDE) % runs))
  .map((index) => first + index);
const overtime = (): boolean => performance.now() - began > values.minutes * 60_000;
const lane = async (): Promise<void> => {
  for (let seed = seeds.shift(); seed !== undefined && !stopped && !overtime(); seed = seeds.shift()) {
    const ends: Record<string, RunEnd> = {};
    for (const contestant of field) {
      const end = await runOne(contestant, seed);
      if (end !== null) ends[contestant.name] = end;
    }
    if (Object.keys(ends).length < field.length) {
      unstarted.push(seed);
      continue;
    }
    const plan = (field[0] as Contestant).scenario(seed);
    const faults = plan.steps.flatMap((step) => step.faults).map(pairName);
    done.push({ seed, engines: plan.engines, workers: plan.workers, faults, ends });
    const summary = field.map(({ name }) => `${name} ${ends[name]?.verdict}>${ends[name]?.recovered}`);
    if (values.verbose) process.stderr.write(`${seed} ${faults.join(' + ')}: ${summary.join(', ')}\n`);
    else if (done.length % 20 === 0) process.stderr.write(`${done.length} seeds\n`);
  }
};
try {
  await Promise.all(Array.from({ length: values.lanes }, lane));
} finally {
  await pool.close();
  stalls.close();
}
const paths = await writeFaultResults(values.results, {
  date: new Date().toISOString(),
  asked: process.argv.slice(2).join(' '),
  seconds: (performance.now() - began) / 1000,
  stalledMs: Math.round(stalls.totalMs),
  pace,
  contestants: field.map(({ name, title }) => ({ name, title })),
  unstarted: unstarted.sort((a, b) => a - b),
  runs: done.sort((a, b) => a.seed - b.seed),
});
process.stdout.write(`written: ${paths.join(', ')}\n`);

async function runOne(contestant: Contestant, seed: number): Promise<RunEnd | null> {
  const scenario = contestant.scenario(seed);
  try {
    const factory = (setup: Parameters<Contestant['factory']>[1]) => contestant.factory(scenario, setup);
    const [pushed, healed] = await runScenario(scenario, { pool, stalls, factory });
    if (pushed === undefined) throw new Error('no push was made');
    const fleet = afterFault(pushed);
    const mended = afterRecovery(fleet, healed);
    return {
      verdict: verdictOf(fleet, 'b'),
      recovered: verdictOf(mended, 'e'),
      struck: pushed.struck.reduce((sum, times) => sum + times, 0),
      said: pushed.outcome === null ? 'killed' : (pushed.outcome.error?.message ?? 'ok').slice(0, 200),
      hung: pushed.outcome?.error?.code === 'HUNG' || pushed.outcome?.error?.code === 'NEVER',
      ms: Math.round(pushed.tookMs),
    };
  } catch (error) {
    process.stderr.write(`seed ${seed}, ${contestant.name}: ${String((error as Error).stack)}\n`);
    return null;
  }
}
