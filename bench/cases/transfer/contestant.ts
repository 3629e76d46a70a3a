/** One push by one sender to receivers that are the same for all: processes that print their unique id and, at the end, what it took. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { emulatorLibraries } from '#weightcast/native.js';

/** What a sender says of itself. */
export interface Sent {
  /** From the first read to the last byte sent. */
  readonly seconds: number;
  /** Until all receivers had put it in its place, where that is a step of its own. */
  readonly appliedSeconds?: number;
  readonly cpuSeconds: number;
  /** Peak resident memory of the process, the emulated device memory included. */
  readonly peakBytes: number;
  readonly versions?: Readonly<Record<string, string>>;
  /** Ours alone. */
  readonly ours?: {
    readonly runSeconds: number;
    readonly stagingBytes: number;
    readonly loopDelayP99Ms: number;
    readonly reports: number;
    readonly readMs: number;
    readonly copyMs: number;
    readonly broadcastMs: number;
  };
}

export interface Sender {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  readonly input: string;
}

export interface Receivers {
  /** Path of the compiled receiver.c. */
  readonly program: string;
  readonly count: number;
  /** Bytes of each broadcast. */
  readonly frames: readonly number[];
}

export interface Push extends Sent {
  /** What the receivers made of the bytes: the same for the same bytes. */
  readonly received: string;
}

interface Running {
  /** The first line that it prints. */
  readonly first: Promise<string>;
  /** The last one, when it has ended well. */
  readonly last: Promise<string>;
}

function start(name: string, { command, args, env, input }: Sender, signal: AbortSignal): Running {
  const child = spawn(command, args, {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
    signal,
    killSignal: 'SIGKILL',
  });
  child.stdin.on('error', () => undefined); // it ended early: its exit code says so
  child.stdin.end(input);
  let latest = '';
  const lines = createInterface({ input: child.stdout });
  lines.on('line', (line) => {
    latest = line;
  });
  const last = once(child, 'close').then(([code, killed]) => {
    if (code !== 0) throw new Error(`${name} ended with ${killed ?? code}`);
    return latest;
  });
  const first = Promise.race([
    once(lines, 'line').then(([line]) => String(line)),
    last.then(() => Promise.reject(new Error(`${name} said nothing`))),
  ]);
  last.catch(() => undefined); // whoever waits for `first` is told as well
  first.catch(() => undefined);
  return { first, last };
}

/**
 * Returns when all processes have ended.
 *
 * @throws Error when a process fails, or the receivers disagree about the bytes
 */
export async function push(
  name: string,
  sender: Sender,
  receivers: Receivers,
  signal: AbortSignal,
): Promise<Push> {
  const failed = new AbortController();
  const both = AbortSignal.any([signal, failed.signal]);
  try {
    const sending = start(name, sender, both);
    const id = await sending.first;
    const worldSize = String(1 + receivers.count);
    const input = [receivers.frames.length, ...receivers.frames].join(' ');
    const receiving = Array.from({ length: receivers.count }, (_, i) => {
      const args = [emulatorLibraries.cuda, emulatorLibraries.nccl, id, worldSize, String(i + 1)];
      return start('a receiver', { command: receivers.program, args, input }, both).last;
    });
    const [sent, ...received] = await Promise.all([sending.last, ...receiving]);
    const [first = ''] = received;
    if (received.some((digest) => digest !== first)) throw new Error('the receivers differ');
    return { ...(JSON.parse(sent) as Sent), received: first };
  } finally {
    failed.abort();
  }
}
