/** 1,024 workers fetch the unique id at once: from our store, from the libuv store of torch, and from the least that Node can do. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { tryPython, vllmPackages } from '../../test/peers/support/venv.js';
import type { BenchCase, Figure } from '../case.js';
import { compile, repository } from '../harness/compile.js';
import { interleave, median, spread } from '../harness/statistics.js';

const TORCH_OF_VLLM = '0.32.0';
const GOAL_MS = 1_000;
/** Meetings of one process of ours: the first runs cold code, the last warm. */
const MEETINGS = 4;

interface Run {
  /** From the first connect to the last id, by the clients' clock. */
  readonly elapsedMs: number;
  /** The server's. */
  readonly cpuMs: number;
}

interface Contest {
  readonly clients: number;
  readonly drive: (port: number) => Promise<number>;
}

export const rendezvous: BenchCase = {
  name: 'rendezvous',
  about:
    'TCPStore clients in another process connect, join and take the unique id, all at once; each server is a fresh process: ours, canned answers on node:net (limit), torch with its libuv server (peer).',
  async run(context) {
    const clients = context.quick ? 128 : 1_024;
    const driver = await compile('store_clients', context.scratch);
    const { environment, why } = await tryPython(vllmPackages(TORCH_OF_VLLM));
    const contest: Contest = {
      clients,
      drive: async (port) => {
        const run = promisify(execFile)(driver, [String(port), String(clients)], { signal: context.signal });
        return Number((await run).stdout);
      },
    };
    const node = (kind: 'ours' | 'bare', meetings: number) => () => {
      const script = fileURLToPath(new URL('./rendezvous/server.js', import.meta.url));
      return serve([process.execPath, script, kind, String(clients)], contest, meetings);
    };
    const torch = async () => {
      if (environment === null) return [];
      const script = join(repository, 'bench/peers/libuv_store.py');
      return serve([environment.python, script, String(clients)], contest, 1, (version) =>
        context.version('torch', version),
      );
    };
    const runs = await interleave(
      { ours: node('ours', MEETINGS), bare: node('bare', MEETINGS), torch },
      context.quick ? 1 : 7,
    );
    return figures(clients, runs, why);
  },
};

/** Starts a server, lets the clients meet there, and ends it. A server that has a version to tell prints it first. */
async function serve(
  [command, ...args]: readonly [string, ...string[]],
  { drive }: Contest,
  meetings: number,
  version?: (version: string) => void,
): Promise<Run[]> {
  const server = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const exit = once(server, 'exit');
  const lines = createInterface(server.stdout)[Symbol.asyncIterator]();
  const next = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error(`${command} ended`);
    return value as string;
  };
  try {
    if (version !== undefined) version(await next());
    const runs: Run[] = [];
    for (let meeting = 0; meeting < meetings; meeting += 1) {
      server.stdin.write('\n');
      const elapsedMs = await drive(Number(await next()));
      if (version !== undefined) server.stdin.write('\n');
      runs.push({ elapsedMs, cpuMs: Number(await next()) * 1e3 });
    }
    return runs;
  } finally {
    server.kill();
    await exit;
  }
}

type Measured = Readonly<Record<'ours' | 'bare' | 'torch', readonly (readonly Run[])[]>>;

function figures(clients: number, { ours, bare, torch }: Measured, why: string | null): Figure[] {
  const at = (meeting: number) => (runs: Measured['ours'], of: (run: Run) => number) =>
    runs.flatMap((meetings) => meetings.at(meeting) ?? []).map(of);
  const figure = (name: string, meeting: number, of: (run: Run) => number): Omit<Figure, 'goal'> => {
    const values = at(meeting)(ours, of);
    const peers = at(0)(torch, of);
    return {
      name,
      unit: 'ms',
      ours: median(values),
      spread: spread(values),
      limit: { name: 'canned answers on node:net', value: median(at(meeting)(bare, of)) },
      ...(peers.length === 0
        ? { note: `no torch here: ${why}` }
        : { peer: { name: 'torch, libuv server', value: median(peers) } }),
    };
  };
  const judged = (timed: Omit<Figure, 'goal'>): Figure => {
    const met = timed.peer === undefined ? null : timed.ours <= timed.peer.value;
    const text = `≤ ${GOAL_MS / 1e3} s, no slower than torch`;
    return { ...timed, goal: { text, met: timed.ours <= GOAL_MS && met } };
  };
  const elapsed = ({ elapsedMs }: Run) => elapsedMs;
  const cpu = ({ cpuMs }: Run) => cpuMs;
  return [
    judged(figure(`${clients} clients, first connect to last id: first meeting of a process`, 0, elapsed)),
    judged(figure(`${clients} clients, meeting ${MEETINGS} of a process`, -1, elapsed)),
    { ...figure('CPU time of the server, first meeting', 0, cpu), goal: { text: '', met: null } },
    { ...figure(`CPU time of the server, meeting ${MEETINGS}`, -1, cpu), goal: { text: '', met: null } },
  ];
}
