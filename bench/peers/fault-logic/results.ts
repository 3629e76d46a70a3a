/** What the runs came to: a Markdown table for people, a JSON file with every run. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { loadAverage, type Machine, machine, versions } from '../../harness/machine.js';
import type { Pace } from './peer.js';
import { VERDICTS, type Verdict } from './verdict.js';

export interface RunEnd {
  /** After the push that was disturbed, and after one more that was not. */
  readonly verdict: Verdict;
  readonly recovered: Verdict;
  /** Requests that the faults struck. */
  readonly struck: number;
  /** What the user was told. */
  readonly said: string;
  /** It never ended: an operator killed it. */
  readonly hung: boolean;
  readonly ms: number;
}

export interface Run {
  readonly seed: number;
  readonly engines: number;
  /** Of each engine. */
  readonly workers: number;
  readonly faults: readonly string[];
  /** By contestant. */
  readonly ends: Readonly<Record<string, RunEnd>>;
}

export interface FaultResults {
  readonly date: string;
  readonly seconds: number;
  readonly stalledMs: number;
  readonly pace: Pace;
  readonly contestants: readonly { readonly name: string; readonly title: string }[];
  /** Seeds whose engines did not start. */
  readonly unstarted: readonly number[];
  /** The options of the command; where it was cut short, fewer runs were made, and each says its seed. */
  readonly asked: string;
  readonly runs: readonly Run[];
}

const HEADINGS: Readonly<Record<Verdict, string>> = {
  mixed: 'mixed',
  dead: 'dead',
  stuck: 'stuck',
  held: 'held, and named',
  old: 'old version',
  new: 'new version',
};

export function toMarkdown(
  results: FaultResults,
  facts: { machine: Machine; versions: object; load: number },
): string {
  const { runs, pace, date } = results;
  const kinds = new Set(runs.flatMap(({ faults }) => faults.map((name) => name.split('/')[0])));
  const pairs = new Set(runs.flatMap(({ faults }) => faults));
  return `# The same faults, ${runs.length} runs each (${date.slice(0, 10)})

\`npm run bench:faults -- ${results.asked}\`: ${facts.machine.cpu}, ${facts.machine.cores} cores, load average ${facts.load};
${Object.entries(facts.versions)
  .map(([of, version]) => `${of} ${version}`)
  .join(
    ' · ',
  )}. ${Math.round(results.seconds)} s, of which this process stood still for ${Math.round(results.stalledMs / 1000)} s.

${pairs.size} pairs of fault and phase (${kinds.size} kinds) strike one push to fleets of 1 to 4 reference engines with 1 or 2 workers. Then one more push, with nothing in its way, goes to
the engines that live. How the fleet stands, the worst that is true of it:

${table(results, 'verdict')}

After the undisturbed push:

${table(results, 'recovered')}

- **mixed**: engines serve different versions, or bytes that are no whole version. **dead**: an engine is gone, or dies of its next request. **stuck**: an engine is paused or hangs and its
  user was not told which. **held, and named**: the same, and the user was told. A client that **never ended** was killed by an operator after 45 minutes of its clock.
- What a fault itself did to an engine's process (killed, died or hangs in NCCL) is counted for nobody; a process that took its place need not have the version. Nor is an engine counted whose worker
  still looks for a store that is gone: it gives up after 300 s, and serves on.
- The emulated NCCL lets a rank receive what fits its buffers while another one is absent. On a real ring some of the mixed runs end stuck instead.${
    results.unstarted.length === 0
      ? ''
      : `\n- The engines of ${results.unstarted.length} more seeds did not start (${results.unstarted.join(', ')}): they count for nobody.`
  }

## What was mapped

The peers' logic is written from their sources; only the logic differs: the engines are reference engines, the bytes leave through our addon and the emulated NCCL.

- **prime-rl** 559b4477 (v0.8.1.dev67): health, init, pause all, update all, \`finally\` resume all; each call up to ten times. Its own server's /update_weights strips, receives and finalizes in one request, as
  stock vLLM's does up to 0.20: so it drives reference engines of vLLM 0.20.2, request for request; /init_broadcaster is /init_weight_transfer_engine. When the orchestrator or the
  trainer fails, the launcher ends the other.
- **vLLM** 0.32.0: \`NCCLTrainerWeightTransferEngine\` over \`HTTPVLLMWeightSyncClient\` in the order of its example: init, pause, start, update beside the broadcast, finish, resume; nothing is
  retried. It knows one server, so a fleet is pushed to in two ways: its calls to all servers at once in one group, and one script a server.
- **weightcast** has vLLM's client timeouts (60 s, 300 s), and needs no files unless said so. Where its process is killed it runs as the command line does, with its guardian.
- A second of the sources is ${pace.msPerSecond} ms here, for everybody; no timeout is shorter than ${pace.shortestMs / 1000} s, so that a busy machine fails nobody. The recovery gets three times as long.

In doubt for the peer: faults of calls that it does not make do not exist for it (for prime-rl: start, finish, verify, reset; for vLLM: verify, reset); it holds its weights in memory, so a
damaged file never reaches it; an engine that its error names counts as named, whatever the error says; its connections are never stale; a prefix cache is not looked at.
`;
}

function table({ contestants, runs }: FaultResults, when: 'verdict' | 'recovered'): string {
  const columns = [
    ...VERDICTS.map((verdict) => HEADINGS[verdict]),
    ...(when === 'verdict' ? ['never ended'] : []),
  ];
  const rows = contestants.map(({ name, title }) => {
    const ends = runs.flatMap(({ ends }) => ends[name] ?? []);
    const counts: number[] = VERDICTS.map((verdict) => ends.filter((end) => end[when] === verdict).length);
    if (when === 'verdict') counts.push(ends.filter(({ hung }) => hung).length);
    return `| ${title} | ${counts.join(' | ')} |`;
  });
  return [`| | ${columns.join(' | ')} |`, `|---|${columns.map(() => '---:|').join('')}`, ...rows].join('\n');
}

/** Writes both files and says their paths. */
export async function writeFaultResults(folder: string, results: FaultResults): Promise<string[]> {
  await mkdir(folder, { recursive: true });
  const facts = { machine: machine(), versions: versions(), load: loadAverage() };
  const base = join(folder, `faults-${results.date.slice(0, 10)}`);
  await writeFile(`${base}.md`, toMarkdown(results, facts));
  const { runs, ...rest } = results;
  const lines = runs.map((run) => `  ${JSON.stringify(run)}`).join(',\n');
  const head = JSON.stringify({ ...facts, ...rest }, null, 1).replace(/\n}$/, '');
  await writeFile(`${base}.json`, `${head},\n "runs": [\n${lines}\n ]\n}\n`);
  return [`${base}.md`, `${base}.json`];
}
