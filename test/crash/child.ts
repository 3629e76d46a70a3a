/** Processes with the preloaded library: one is at work, the next one is starting. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Fault, FaultControl, type Seen } from './control.js';

const SCRIPT = fileURLToPath(new URL('child.mjs', import.meta.url));
const TASK_TIMEOUT_MS = 240_000;

/** How it ended: `killed` by the fault, with an error, or well. */
export interface Outcome extends Seen {
  readonly killed: boolean;
  readonly error: {
    readonly name: string;
    readonly code: string | null;
    readonly message: string;
    readonly errnoName: string | null;
    readonly remedy: string | null;
  } | null;
}

const NO_ERROR = { name: 'none', code: null, errnoName: null, remedy: null };

export interface Task {
  readonly task: string;
  readonly options: Readonly<Record<string, unknown>>;
}

interface Started {
  readonly child: ChildProcess;
  readonly control: FaultControl;
  readonly ready: Promise<unknown>;
}

export class Children implements AsyncDisposable {
  readonly #library: string;
  readonly #folder: string;
  #made = 0;
  #next: Started | null = null;

  /** @param folder where a folder for its control files is made */
  constructor(library: string, folder: string) {
    this.#library = library;
    this.#folder = mkdtempSync(join(folder, 'control-'));
  }

  /** Does the task with the fault in what lies under `folder`. A process that lives on does the next one too. */
  async run(folder: string, fault: Fault, task: Task): Promise<Outcome> {
    const { child, control, ready } = this.#next ?? this.#start();
    this.#next = null;
    await ready;
    if (fault.act.startsWith('kill')) this.#next = this.#start();
    control.arm(folder, fault);
    child.send(task);
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      child.kill('SIGABRT');
    }, TASK_TIMEOUT_MS);
    const over = new AbortController();
    const { signal } = over;
    const ended = await Promise.race([
      once(child, 'message', { signal }).then(([message]) => message as Pick<Outcome, 'error'>),
      once(child, 'exit', { signal }).then(([code, signal]) => ({ code, signal }) as const),
    ]);
    over.abort();
    clearTimeout(timer);
    const seen = control.seen();
    if ('error' in ended) {
      if (this.#next === null) this.#next = { child, control, ready };
      else await end({ child, control, ready });
      return { ...seen, killed: false, error: ended.error };
    }
    control[Symbol.dispose]();
    if (ended.signal === 'SIGKILL') return { ...seen, killed: true, error: null };
    const message = isLate ? 'it hangs' : `it ended with ${ended.code ?? ended.signal}`;
    return { ...seen, killed: false, error: { ...NO_ERROR, message } };
  }

  #start(): Started {
    const control = new FaultControl(join(this.#folder, String(this.#made++)));
    const env = {
      ...process.env,
      LD_PRELOAD: this.#library,
      WEIGHTCAST_FAULT_CONTROL: control.path,
      // Its calls would pass the library by.
      UV_USE_IO_URING: '0',
      // As many as a process has that does nothing else; each takes a while to start.
      UV_THREADPOOL_SIZE: '4',
    };
    const child = fork(SCRIPT, [], { env, execArgv: [], stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    const ready = once(child, 'message');
    ready.catch(() => {});
    return { child, control, ready };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#next !== null) await end(this.#next);
    this.#next = null;
  }
}

async function end({ child, control }: Started): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  control[Symbol.dispose]();
}
