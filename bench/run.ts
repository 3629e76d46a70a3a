/**
 * npm run bench [-- case …] [--quick] [--results DIR]
 *
 * Without names all cases run. Results are written by a whole run that is not quick, and wherever --results says.
 */
import { mkdir } from 'node:fs/promises';
import { cases } from './cases/index.js';
import { loadAverage, machine, versions } from './harness/machine.js';
import { type CaseResult, writeResults } from './harness/results.js';
import { runInChild } from './harness/spawn.js';
import { markdownTable } from './harness/table.js';
import { benchOptions } from './options.js';

/** Above this load a core, other programs take time from ours. */
const BUSY_LOAD_PER_CORE = 0.5;

const print = (text: string): void => {
  process.stdout.write(`${text}\n`);
};

async function main(): Promise<number> {
  const { values, operands } = benchOptions(
    'bench',
    'Every case that needs no GPU, or those that are named.',
  );
  // Those that need a GPU run by name: npm run bench:gpu.
  const names =
    operands.length > 0 ? operands : Object.keys(cases).filter((name) => !name.startsWith('gpu-'));
  const { quick, scratch } = values;
  await mkdir(scratch, { recursive: true });

  const interrupt = new AbortController();
  process.once('SIGINT', () => interrupt.abort());
  process.once('SIGTERM', () => interrupt.abort());

  const date = new Date().toISOString();
  const found = versions();
  const here = machine();
  const before = loadAverage();
  const done: CaseResult[] = [];
  for (const name of names) {
    if (interrupt.signal.aborted) break;
    process.stderr.write(`${name} …\n`);
    const result = await runInChild(
      { name, quick, scratch },
      {
        signal: interrupt.signal,
        version: (of, version) => {
          found[of] = version;
        },
      },
    );
    done.push(result);
    print(`\n## ${name}: ${result.about} (${result.seconds.toFixed(0)} s)\n`);
    print(result.failure === null ? markdownTable(result.figures) : `FAILED: ${result.failure}`);
  }

  const after = loadAverage();
  const busy =
    before > BUSY_LOAD_PER_CORE * here.cores
      ? `The machine was busy before this began (load average ${before} on ${here.cores} cores): compare the columns of a row, not rows with other runs.`
      : null;
  print(`\nLoad average ${before} before, ${after} after.${busy === null ? '' : ` ${busy}`}`);
  const folder = values.results ?? (quick || operands.length > 0 ? null : 'bench/results');
  if (folder !== null && !interrupt.signal.aborted) {
    const paths = await writeResults(folder, {
      date,
      quick,
      machine: here,
      versions: found,
      load: { before, after },
      busy,
      cases: done,
    });
    print(`Written: ${paths.join(', ')}`);
  }
  return done.some(({ failure }) => failure !== null) || interrupt.signal.aborted ? 1 : 0;
}

process.exitCode = await main();
