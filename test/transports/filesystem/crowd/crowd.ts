/** Processes around one publication directory. */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export interface Sample {
  readonly round: number;
  readonly fds: number;
  readonly rssBytes: number;
}

export interface Done {
  readonly samples: readonly Sample[];
  /** Of a publisher: versions that retention removed. */
  readonly removed?: number;
  readonly seconds?: number;
  /** Of a reader: how many versions it has read. */
  readonly reads?: number;
}

const PROCESS = fileURLToPath(new URL('./process.mjs', import.meta.url));

export interface Member {
  readonly child: ChildProcess;
  /** What it did; null when it was killed. @throws Error with what it wrote to standard error when it failed */
  readonly done: Promise<Done | null>;
}

export function start(role: 'publish' | 'read', ...args: readonly (string | number)[]): Member {
  const child = spawn(process.execPath, ['--expose-gc', PROCESS, role, ...args.map(String)], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on('data', (bytes: Buffer) => out.push(bytes));
  child.stderr.on('data', (bytes: Buffer) => err.push(bytes));
  // A reader that has ended reads no more.
  child.stdin.on('error', () => undefined);
  const done = new Promise<Done | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => {
      if (signal === 'SIGKILL') resolve(null);
      else if (code === 0) resolve(JSON.parse(Buffer.concat(out).toString()) as Done);
      else reject(new Error(`${role} ended with ${code ?? signal}: ${Buffer.concat(err).toString()}`));
    });
  });
  // Awaited later: a failure before that is not unobserved.
  done.catch(() => undefined);
  return { child, done };
}

/** File descriptors and memory that a process had gained at its end, since it was warm. */
export function growth(samples: readonly Sample[]): { readonly fds: number; readonly rssBytes: number } {
  const warm = samples[Math.floor(samples.length / 4)];
  const last = samples.at(-1);
  if (warm === undefined || last === undefined) return { fds: 0, rssBytes: 0 };
  return { fds: last.fds - warm.fds, rssBytes: last.rssBytes - warm.rssBytes };
}
