/**
 * The engine core: one thing at a time, and requests that run, wait or freeze as vLLM's pause modes say
 * (contracts/vllm.md 2.3). A utility call that blocks (a receive) holds everything that asks the core.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { deferred } from '../deferred.js';

export type PauseMode = 'abort' | 'wait' | 'keep';

/** Runs tasks one after another. */
export class Serial {
  #tail: Promise<unknown> = Promise.resolve();
  #pending = 0;

  /** Tasks that have not ended. */
  get pending(): number {
    return this.#pending;
  }

  run<T>(task: () => T | Promise<T>): Promise<T> {
    this.#pending += 1;
    const result = this.#tail.then(task);
    const ended = (): void => {
      this.#pending -= 1;
    };
    this.#tail = result.then(ended, ended);
    return result;
  }
}

/** One generation: a request of a client. */
export interface Generation {
  /** Called once a token, under the core's lock; true when the request is complete. */
  step(): Promise<boolean>;
  /** The key-value cache was dropped: compute it again at the next step. */
  preempt(): void;
}

interface Entry {
  readonly generation: Generation;
  aborted: boolean;
  /** Began to run (a wait pause drains only these). */
  running: boolean;
}

export class Scheduler {
  readonly core = new Serial();
  readonly #tokenMs: number;
  readonly #entries = new Set<Entry>();
  #mode: PauseMode | null = null;
  /** Resolved and replaced whenever something changes that a waiter may care about. */
  #changed = deferred<void>();

  constructor(tokenMs: number) {
    this.#tokenMs = tokenMs;
  }

  get mode(): PauseMode | null {
    return this.#mode;
  }

  get running(): number {
    return [...this.#entries].filter((entry) => entry.running).length;
  }

  get waiting(): number {
    return this.#entries.size - this.running;
  }

  /** Returns when the mode is reached: abort and wait, when nothing runs any more. */
  async pause(mode: PauseMode): Promise<void> {
    await this.core.run(() => {
      this.#mode = mode;
      if (mode === 'abort') {
        this.abortAll();
      }
      this.#notify();
    });
    while (mode !== 'keep' && this.running > 0) {
      await this.#changed.promise;
    }
  }

  async resume(): Promise<void> {
    await this.core.run(() => {
      this.#mode = null;
      this.#notify();
    });
  }

  /** Requests that run lose their key-value cache. */
  preempt(): void {
    for (const entry of this.#entries) {
      entry.generation.preempt();
    }
  }

  abortAll(): number {
    for (const entry of this.#entries) {
      entry.aborted = true;
    }
    this.#notify();
    return this.#entries.size;
  }

  /** Runs a generation to its end; 'abort' when a pause, a call or a lost client ended it. */
  async generate(generation: Generation, signal: AbortSignal): Promise<'done' | 'abort'> {
    const entry: Entry = { generation, aborted: signal.aborted, running: false };
    const stop = (): void => {
      entry.aborted = true;
      this.#notify();
    };
    signal.addEventListener('abort', stop, { once: true });
    this.#entries.add(entry);
    try {
      return await this.#drive(entry);
    } finally {
      signal.removeEventListener('abort', stop);
      this.#entries.delete(entry);
      this.#notify();
    }
  }

  async #drive(entry: Entry): Promise<'done' | 'abort'> {
    while (!entry.aborted) {
      if (this.#held(entry)) {
        await this.#changed.promise;
        continue;
      }
      entry.running = true;
      // The pause may have come while the step waited for the core.
      const done = await this.core.run(() =>
        entry.aborted || this.#held(entry) ? false : entry.generation.step(),
      );
      if (done) {
        return 'done';
      }
      await sleep(this.#tokenMs);
    }
    return 'abort';
  }

  #held(entry: Entry): boolean {
    return this.#mode === 'keep' || (this.#mode !== null && !entry.running);
  }

  #notify(): void {
    const changed = this.#changed;
    this.#changed = deferred<void>();
    changed.resolve();
  }
}
