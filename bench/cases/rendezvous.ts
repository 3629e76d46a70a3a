/** 1,024 workers fetch the unique id at once: from our store, and from the libuv store of torch. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { promisify } from 'node:util';
import { openRendezvous } from '#weightcast/transports/nccl/rendezvous/index.js';
import { tryPython, vllmPackages } from '../../test/peers/support/venv.js';
import type { BenchCase, CaseContext, Figure } from '../case.js';
import { compile, repository } from '../harness/compile.js';
import { interleave, median, spread } from '../harness/statistics.js';

const TORCH_OF_VLLM = '0.32.0';
const GOAL_MS = 1_000;

interface Run {
  /** From the first connect to the last id, by the clients' clock. */
  readonly elapsedMs: number;
  /** The server's. */
  readonly cpuMs: number;
}

export const rendezvous: BenchCase = {
  name: 'rendezvous',
  about:
    '1,024 TCPStore clients in another process connect, join and take the unique id; beside it the same clients at the libuv server of torch.',
  async run(context) {
    const clients = context.quick ? 128 : 1_024;
    const driver = await compile('store_clients', context.scratch);
    const { environment, why } = await tryPython(vllmPackages(TORCH_OF_VLLM));
    const drive = async (port: number) => {
      const run = promisify(execFile)(driver, [String(port), String(clients)], { signal: context.signal });
      return Number((await run).stdout);
    };
    const contestants = {
      ours: () => ours(clients, drive),
      ...(environment === null
        ? {}
        : { torch: () => torch(environment.python, { clients, drive, context }) }),
    };
    await contestants.ours();
    const runs: { ours: Run[]; torch?: Run[] } = await interleave(contestants, context.quick ? 1 : 7);
    return figures(clients, runs, why);
  },
};

async function ours(clients: number, drive: (port: number) => Promise<number>): Promise<Run> {
  const before = process.cpuUsage();
  await using meeting = await openRendezvous({
    host: '127.0.0.1',
    port: 0,
    uniqueId: new Uint8Array(128),
    expected: Array.from({ length: clients }, (_, i) => ({ engine: 'http://127.0.0.1:1', rank: i + 1 })),
    timeoutMs: 60_000,
  });
  const [elapsedMs] = await Promise.all([drive(meeting.port), meeting.complete()]);
  const { user, system } = process.cpuUsage(before);
  return { elapsedMs, cpuMs: (user + system) / 1e3 };
}

async function torch(
  python: string,
  {
    clients,
    drive,
    context,
  }: {
    readonly clients: number;
    readonly drive: (port: number) => Promise<number>;
    readonly context: CaseContext;
  },
): Promise<Run> {
  const script = join(repository, 'bench/peers/libuv_store.py');
  const server = spawn(python, [script, String(clients)], { stdio: ['pipe', 'pipe', 'inherit'] });
  const exit = once(server, 'exit');
  const lines = createInterface(server.stdout)[Symbol.asyncIterator]();
  const next = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error('the server of torch ended');
    return value as string;
  };
  try {
    const [version = '', port = ''] = (await next()).split(' ');
    context.version('torch', version);
    const elapsedMs = await drive(Number(port));
    server.stdin.end();
    return { elapsedMs, cpuMs: Number(await next()) * 1e3 };
  } finally {
    server.kill();
    await exit;
  }
}

function figures(
  clients: number,
  { ours, torch }: { readonly ours: readonly Run[]; readonly torch?: readonly Run[] },
  why: string | null,
): Figure[] {
  const figure = (name: string, of: (run: Run) => number, text: string, goalMs: number): Figure => {
    const mine = median(ours.map(of));
    const peer =
      torch === undefined ? undefined : { name: 'torch, libuv server', value: median(torch.map(of)) };
    const fast = mine <= goalMs;
    return {
      name,
      unit: 'ms',
      ours: mine,
      spread: spread(ours.map(of)),
      ...(peer === undefined ? { note: `no torch here: ${why}` } : { peer }),
      goal: { text, met: !fast ? false : peer === undefined ? null : mine <= peer.value },
    };
  };
  return [
    figure(
      `${clients} clients, first connect to last id`,
      ({ elapsedMs }) => elapsedMs,
      `≤ ${GOAL_MS / 1e3} s, no slower than torch`,
      GOAL_MS,
    ),
    {
      ...figure('CPU time of the server', ({ cpuMs }) => cpuMs, '', Number.POSITIVE_INFINITY),
      goal: { text: '', met: null },
    },
  ];
}
