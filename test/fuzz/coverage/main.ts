/**
 * The coverage-guided fuzzer: `npm run fuzz`. What fails is made smaller and added to test/fuzz/corpus, which the ordinary tests replay.
 */
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { commandLine, wrongUsage } from '../../command-line.mjs';
import { TARGETS } from '../targets/index.js';
import type { FuzzTarget } from '../targets/target.js';
import { addToCorpus, corpusOf } from './corpus.js';
import { type Failure, Fuzzer } from './fuzzer.js';
import { Random } from './random.js';
import { Watchdog } from './watch.js';

const LONGEST_KEPT = 400;
const MOST_KEPT = 60;

const NAMES = TARGETS.map(({ name }) => name).join(', ');
const { values } = commandLine('fuzz', {
  about: `Inputs for all that reads bytes from elsewhere, led by which branches they reach.\ntargets: ${NAMES}`,
  options: {
    target: { value: 'NAME', many: true, text: 'one of them' },
    seconds: { number: 80, text: 'of all targets together' },
    seed: { number: null, text: 'of what is random' },
    keep: { text: 'adds short inputs that reached something new to the corpus' },
  },
});
const seed = values.seed ?? Math.floor(Math.random() * 2 ** 32);
const chosen = TARGETS.filter(({ name }) => values.target?.includes(name) ?? true);
if (chosen.length !== (values.target?.length ?? TARGETS.length)) {
  wrongUsage(`no such target; there are ${NAMES}`);
}
say(
  `seed ${seed}, ${values.seconds} s for ${chosen.length} targets, ${globalThis.weightcastCoverage?.size} branches counted`,
);
let failed = 0;
for (const target of chosen) failed += (await fuzz(target, (1000 * values.seconds) / chosen.length)) ? 0 : 1;
process.exit(failed === 0 ? 0 : 1);

async function fuzz(target: FuzzTarget, ms: number): Promise<boolean> {
  await using watchdog = new Watchdog(join(tmpdir(), `weightcast-fuzz-${target.name}.stuck`));
  const seeds = await target.seeds();
  const fuzzer = new Fuzzer(target, seeds, new Random(seed), (input) => watchdog.begin(input));
  const began = performance.now();
  const known = [...seeds, ...corpusOf(target.name)];
  let failure: Failure | null = null;
  for (const input of known) failure ??= await fuzzer.try(input);
  const before = { kept: fuzzer.kept.length, branches: fuzzer.branches };
  const found = failure ?? (await fuzzer.until(began + ms));
  const seconds = (performance.now() - began) / 1000;
  const pace = Math.round(fuzzer.runs / seconds);
  say(
    `${target.name}: ${fuzzer.runs} runs, ${pace} a second; branches ${before.branches} by ${known.length} known inputs, ${fuzzer.branches} in the end; ${fuzzer.kept.length} inputs kept`,
  );
  if (values.keep) {
    const short = fuzzer.kept.slice(before.kept).filter(({ length }) => length <= LONGEST_KEPT);
    addToCorpus(target.name, short.slice(0, MOST_KEPT));
  }
  if (found === null) return true;
  addToCorpus(target.name, [found.input]);
  say(
    `FAILED ${target.name}: ${inspect(found.error)}\n  input ${inspect(Buffer.from(found.input).toString('latin1').slice(0, 400))}`,
  );
  return false;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
