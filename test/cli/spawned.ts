/** A command line in a real process: its output as it comes, signals, and how it ended. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

export const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly out: string;
  readonly err: string;
}

export class Spawned {
  readonly #child: ChildProcess;
  readonly out: Stream;
  readonly err: Stream;
  readonly ended: Promise<Ended>;

  /** Runs node with `args`; `env` is added to this process's own. */
  constructor(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    this.#child = spawn(process.execPath, args, {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.out = new Stream(this.#child, 'stdout');
    this.err = new Stream(this.#child, 'stderr');
    this.ended = once(this.#child, 'close').then(([code, signal]) => ({
      code,
      signal,
      out: this.out.text,
      err: this.err.text,
    }));
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.ended;
  }
}

class Stream {
  text = '';
  readonly #child: ChildProcess;
  readonly #listeners = new Set<() => void>();

  constructor(child: ChildProcess, name: 'stdout' | 'stderr') {
    this.#child = child;
    child[name]?.setEncoding('utf8').on('data', (chunk: string) => {
      this.text += chunk;
      for (const listener of this.#listeners) listener();
    });
  }

  /** Resolves once the text has come; rejects when the process ends without it. */
  seen(wanted: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = () => this.text.includes(wanted) && resolve();
      this.#listeners.add(look);
      this.#child.once('close', () => reject(new Error(`ended without ${wanted}: ${this.text}`)));
      look();
    });
  }
}

/** Runs the built command line to its end. */
export async function weightcast(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Ended> {
  await using spawned = new Spawned([MAIN, ...args], env);
  return await spawned.ended;
}

/** Processes that have `text` in their environment: those that a command with that variable has started. */
export async function processesWith(text: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const environments = await Promise.all(
    pids.map((pid) => readFile(`/proc/${pid}/environ`, 'latin1').catch(() => '')),
  );
  return pids.filter((_, index) => environments[index]?.includes(text));
}
