import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { tail } from './process.js';

/** A program and all that it started, in a process group of their own. */
export interface ProcessGroup {
  /** The exit code, `128 + signal` where it was killed, null while it runs. Those that it started may live on. */
  exitCode(): number | null;
  /** What it printed so far. */
  log(): string;
  /** Sends a signal to every process of it. */
  signal(signal: NodeJS.Signals): void;
  /** Ends every process of it, politely first, and waits until they are gone. Safe to call twice. */
  stop(): Promise<void>;
}

export interface GroupOptions {
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Milliseconds between SIGTERM and SIGKILL; default 8,000: vLLM removes its shared memory in 2 s. */
  readonly graceMs?: number;
}

/**
 * The group's leader. It ends the group when fd 3 closes, which happens however the test process ends: vLLM's own processes outlive
 * their parent.
 */
const LEADER = '(cat <&3 >/dev/null; kill -KILL 0) & exec 3<&-; "$@" </dev/null; exit $?';

/** Starts a program in a directory of its own, with its output in a file. */
export async function startGroup(
  command: readonly string[],
  options: GroupOptions = {},
): Promise<ProcessGroup> {
  const directory = mkdtempSync(join(tmpdir(), 'weightcast-peer-'));
  const logFile = join(directory, 'log');
  const output = openSync(logFile, 'w');
  const child = spawn('sh', ['-c', LEADER, 'sh', ...command], {
    cwd: directory,
    detached: true,
    // A Python that may not keep its bytecode compiles all of Dynamo or vLLM at every start.
    env: { ...process.env, PYTHONDONTWRITEBYTECODE: '', ...options.env },
    stdio: ['ignore', output, output, 'pipe'],
  });
  closeSync(output);
  const exited = once(child, 'exit');
  await once(child, 'spawn');
  const pid = child.pid!;
  let ended: string | null = null;
  const log = () => ended ?? readFileSync(logFile, 'utf8');
  const stop = async () => {
    const began = performance.now();
    const { graceMs = 8_000 } = options;
    signalGroup(pid, 'SIGTERM');
    while (signalGroup(pid, performance.now() < began + graceMs ? 0 : 'SIGKILL')) {
      if (performance.now() > began + graceMs + 10_000) {
        throw new Error(`processes of group ${pid} do not end`);
      }
      await sleep(50);
    }
    await exited;
    ended ??= log();
    rmSync(directory, { recursive: true, force: true });
  };
  return {
    exitCode: () =>
      child.exitCode ?? (child.signalCode === null ? null : 128 + constants.signals[child.signalCode]),
    log,
    signal: (signal) => void signalGroup(pid, signal),
    stop,
  };
}

/** Waits until `ready` says so. @throws Error with the end of the log when the program ends or the time is over, after ending it. */
export async function untilReady(
  what: string,
  group: ProcessGroup,
  timeoutMs: number,
  ready: () => Promise<boolean>,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await ready())) {
    const dead = group.exitCode() !== null;
    if (dead || performance.now() > deadline) {
      await group.stop();
      const why = dead ? `ended with ${group.exitCode()} at start` : `was not ready after ${timeoutMs} ms`;
      throw new Error(`${what} ${why}:\n${tail(group.log(), 40)}`);
    }
    await sleep(100);
  }
}

/** Whether a server answers 200 there. */
export async function answers(url: string): Promise<boolean> {
  try {
    return (await fetch(url, { signal: AbortSignal.timeout(5_000) })).ok;
  } catch {
    return false;
  }
}

/** A port that was free a moment ago; below 32,768 on demand, which Dynamo wants of its system port. */
export async function freePort(range: 'any' | 'below 32768' = 'any'): Promise<number> {
  for (;;) {
    const wanted = range === 'any' ? 0 : 12_000 + Math.floor(Math.random() * 20_000);
    const server = createServer().listen(wanted, '127.0.0.1');
    try {
      await once(server, 'listening');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') continue;
      throw error;
    }
    const address = server.address();
    server.close();
    await once(server, 'close');
    if (address === null || typeof address === 'string') throw new Error('no port');
    return address.port;
  }
}

/** False when the group has no process left. */
function signalGroup(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}
