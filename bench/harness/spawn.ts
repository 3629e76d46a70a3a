/** Runs one case in a process group of its own, to its end or its deadline. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Figure } from '../case.js';
import type { CaseResult } from './results.js';

export interface ToChild {
  readonly name: string;
  readonly quick: boolean;
  readonly scratch: string;
}

export type FromChild =
  | { readonly kind: 'about'; readonly about: string; readonly timeoutMs: number | null }
  | { readonly kind: 'version'; readonly of: string; readonly version: string }
  | { readonly kind: 'figures'; readonly figures: readonly Figure[] }
  | { readonly kind: 'failure'; readonly message: string };

const TIMEOUT_MS = 300_000;
/** What a case gets to end its own children after SIGTERM. */
const GRACE_MS = 3_000;

export async function runInChild(
  order: ToChild,
  options: { readonly signal: AbortSignal; readonly version: (of: string, version: string) => void },
): Promise<CaseResult> {
  const began = performance.now();
  // A group of its own (detached), so that a case's receivers and servers end with it.
  const child = spawn(process.execPath, [fileURLToPath(new URL('./child.js', import.meta.url))], {
    detached: true,
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  let about = '';
  let figures: readonly Figure[] | null = null;
  let failure: string | null = null;

  const kill = (signal: NodeJS.Signals): void => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, signal);
    } catch {
      // The group has ended.
    }
  };
  let hardStop: NodeJS.Timeout | undefined;
  const stop = (why: string): void => {
    failure ??= why;
    kill('SIGTERM');
    hardStop ??= setTimeout(() => kill('SIGKILL'), GRACE_MS);
  };
  let deadline = setTimeout(() => stop(`no end after ${TIMEOUT_MS / 1000} s`), TIMEOUT_MS);
  const onAbort = (): void => stop('interrupted');
  options.signal.addEventListener('abort', onAbort, { once: true });

  child.on('message', (message: FromChild) => {
    switch (message.kind) {
      case 'about':
        about = message.about;
        if (message.timeoutMs !== null) {
          const { timeoutMs } = message;
          clearTimeout(deadline);
          deadline = setTimeout(() => stop(`no end after ${timeoutMs / 1000} s`), timeoutMs);
        }
        break;
      case 'version':
        options.version(message.of, message.version);
        break;
      case 'figures':
        figures = message.figures;
        break;
      case 'failure':
        failure ??= message.message;
        break;
    }
  });
  child.send(order);
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  clearTimeout(deadline);
  clearTimeout(hardStop);
  options.signal.removeEventListener('abort', onAbort);
  kill('SIGKILL'); // whatever the case left behind
  if (figures === null) failure ??= `the case's process ended with ${signal ?? code}`;
  return {
    name: order.name,
    about,
    seconds: (performance.now() - began) / 1000,
    figures: figures ?? [],
    failure,
  };
}
