/** Parsing a long header on a thread of its own, where the quick way (scan.ts) does not go. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { HeaderColumns } from './columns.js';
import { HeaderError } from './error.js';

export interface ThreadInput {
  /** Shared: posting it copies nothing. */
  readonly header: SharedArrayBuffer;
  readonly dataBytes: number;
}

export type ThreadAnswer =
  | { readonly kind: 'columns'; readonly columns: HeaderColumns }
  | {
      readonly kind: 'invalid';
      readonly message: string;
      readonly tensor: string | null;
      readonly facts: Readonly<Record<string, unknown>>;
    };

/** Workers run compiled files, also when this module runs from its TypeScript source. */
function workerPath(): string | null {
  const compiled = import.meta.url.endsWith('.js');
  const path = fileURLToPath(
    new URL(compiled ? './worker-main.js' : '../../../dist/weights/header/worker-main.js', import.meta.url),
  );
  return existsSync(path) ? path : null;
}

/**
 * Parses on another thread; null when none can be had (a bundler left its file out, the process may start no more threads).
 *
 * @throws HeaderError, and the signal's reason: the thread is ended then
 */
export async function parseOnThread(
  input: ThreadInput,
  signal: AbortSignal | null,
): Promise<HeaderColumns | null> {
  const path = workerPath();
  if (path === null) return null;
  signal?.throwIfAborted();
  let worker: Worker;
  try {
    worker = new Worker(path, { name: 'weightcast header', workerData: input, execArgv: [] });
  } catch {
    return null;
  }
  const answer = await answerOf(worker, signal).finally(() => worker.terminate());
  if (answer === null) return null;
  if (answer.kind === 'columns') return answer.columns;
  throw new HeaderError(answer.message, answer.tensor, answer.facts);
}

/** null when it did not start. */
function answerOf(worker: Worker, signal: AbortSignal | null): Promise<ThreadAnswer | null> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    worker.once('message', resolve);
    worker.once('error', ({ code }: NodeJS.ErrnoException) => {
      // It would be no better here. The parser throws nothing but HeaderError: any other error is one of starting.
      if (code === 'ERR_WORKER_OUT_OF_MEMORY')
        reject(new HeaderError('it takes more memory than there is', null));
      else resolve(null);
    });
    worker.once('exit', () => {
      signal?.removeEventListener('abort', onAbort);
      resolve(null);
    });
  });
}
