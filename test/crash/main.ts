/**
 * The crash harness: `npm run test:crash [-- --sample N] [--only TEXT]`. A process that publishes (in full, or a delta), follows or prunes is killed at every
 * call by which it changes the directory, and halfway through every write; then ENOSPC, EIO and EDQUOT are answered at every call that can say so, and short
 * writes at every write. After each, what the directory holds is judged: see publish.ts, follow.ts and prune.ts.
 */
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { commandLine } from '../command-line.mjs';
import { Children } from './child.js';
import type { Fault } from './control.js';
import { undisturbedDelta } from './delta.js';
import { followScenario } from './follow.js';
import { pointsOf } from './points.js';
import { buildPreload } from './preload/build.js';
import { pruneScenarios } from './prune.js';
import { COMMIT_MODES, publishScenario, sweepScenario, undisturbed } from './publish.js';
import type { Scenario } from './scenario.js';
import { strike } from './strike.js';

/** Enough files for 500 points in the two commit modes. */
const SHARDS = 52;
/** Enough for shards that are written at the same time. */
const FEW_SHARDS = 6;
/** Each is a write of its own in a delta. */
const TENSORS = 24;
const FEW_TENSORS = 4;

const { values } = commandLine('test:crash', {
  about:
    'Publishers, followers and prunes that are killed, or refused, at every call by which they change a directory.',
  options: {
    sample: { number: null, text: 'so many points of each kind instead of all' },
    only: { value: 'TEXT', text: 'scenarios with it in their name' },
    act: { value: 'TEXT', text: 'faults with it in their name' },
    lanes: { number: 2, text: 'side by side' },
  },
});
const sample = values.sample ?? Number.POSITIVE_INFINITY;
const laneCount = values.lanes;
// In memory where there is some: a killed process loses nothing that it wrote, wherever that is.
const root = await mkdtemp(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'weightcast-crash-'));
const began = performance.now();
let failed = 0;
let struck = 0;
try {
  const library = buildPreload(root);
  for (const scenario of await scenarios(library)) {
    const all = await pointsOf(scenario, { root, library, sample });
    const points = all.filter(({ act }) => act.includes(values.act ?? ''));
    const lanes = Array.from({ length: laneCount }, (_, index) =>
      strikeAll(
        scenario,
        library,
        points.filter((_, at) => at % laneCount === index),
      ),
    );
    await Promise.all(lanes);
    const counts = new Map<string, number>();
    for (const { act } of points) counts.set(act, (counts.get(act) ?? 0) + 1);
    say(`${scenario.name}: ${[...counts].map(([act, count]) => `${count} × ${act}`).join(', ')}`);
  }
} finally {
  await rm(root, { recursive: true, force: true });
}
const seconds = ((performance.now() - began) / 1000).toFixed(0);
say(`${struck} points struck, ${failed} wrong, ${seconds} s`);
process.exitCode = failed === 0 && struck > 0 ? 0 : 1;

async function scenarios(library: string): Promise<Scenario[]> {
  const all: Scenario[] = [];
  for (const commit of COMMIT_MODES) {
    all.push(publishScenario(await undisturbed(root, commit, SHARDS)));
    const small = await undisturbed(join(root, 'small'), commit, FEW_SHARDS);
    all.push(await sweepScenario(join(root, 'small'), small, library));
    all.push(publishScenario(await undisturbedDelta(root, commit, TENSORS)));
    all.push(...(await pruneScenarios(root, commit, { library, tensors: FEW_TENSORS })));
  }
  all.push(await followScenario(root, FEW_TENSORS));
  return all.filter(({ name }) => name.includes(values.only ?? ''));
}

async function strikeAll(scenario: Scenario, library: string, faults: readonly Fault[]): Promise<void> {
  await using children = new Children(library, root);
  for (const fault of faults) {
    const { hit, wrong } = await strike(children, { root, scenario, fault });
    struck += hit === null ? 0 : 1;
    if (wrong.length === 0) continue;
    failed += 1;
    const error = fault.act === 'fail' ? ` with ${fault.error}` : '';
    say(`WRONG ${scenario.name}: ${fault.act} at call ${fault.at} (${hit})${error}`);
    for (const what of wrong) say(`  ${what}`);
  }
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
