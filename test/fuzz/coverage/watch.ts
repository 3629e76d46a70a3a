import { Worker } from 'node:worker_threads';

const STUCK_MS = 20_000;

/** Watches from a thread of its own: an input that does not come to its end is saved, and the process ends. */
export class Watchdog {
  readonly #shared = new SharedArrayBuffer(8 + 64 * 1024);
  readonly #state = new Int32Array(this.#shared, 0, 2);
  readonly #input = new Uint8Array(this.#shared, 8);
  readonly #worker: Worker;

  constructor(file: string) {
    const program = `
      const { workerData: { shared, file, ms } } = require('node:worker_threads');
      const { mkdirSync, writeFileSync, writeSync } = require('node:fs');
      const state = new Int32Array(shared, 0, 2);
      let last = -1;
      setInterval(() => {
        if (state[0] !== last || state[0] === 0) { last = state[0]; return; }
        mkdirSync(require('node:path').dirname(file), { recursive: true });
        writeFileSync(file, Buffer.from(new Uint8Array(shared, 8, state[1]).slice()));
        writeSync(2, 'an input did not come to its end within ' + ms + ' ms: ' + file + '\\n');
        process.kill(process.pid, 'SIGKILL');
      }, ms);`;
    this.#worker = new Worker(program, {
      eval: true,
      workerData: { shared: this.#shared, file, ms: STUCK_MS },
    });
    this.#worker.unref();
  }

  begin(input: Uint8Array): void {
    this.#input.set(input.subarray(0, this.#input.length));
    this.#state[1] = Math.min(input.length, this.#input.length);
    this.#state[0] = (this.#state[0]! % 1_000_000_000) + 1;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }
}
