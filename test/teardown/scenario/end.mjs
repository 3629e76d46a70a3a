// end.mjs <state> <ending>: ends a process, or a Worker, in that state. It says 'now' when it does.
import { writeSync } from 'node:fs';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { expectUsable, noThreadsLeft } from './addon.mjs';
import { states } from './states.mjs';

const NEVER = { deadlineMs: 600_000, jobBytes: 50e9 };
const SOON = { deadlineMs: 300, jobBytes: 100e6 };

/** Endings of the environment that holds the state: the main thread, or a Worker. */
const endings = {
  natural() {},
  exit() {
    process.exit(7);
  },
  throw() {
    setImmediate(() => {
      throw new Error('thrown on purpose');
    });
  },
  reject() {
    Promise.reject(new Error('rejected on purpose'));
  },
  /** Waits for its parent: a signal, or worker.terminate(). */
  hold() {
    setInterval(() => {}, 60_000);
    parentPort?.postMessage('holding');
  },
};

async function end(state, ending) {
  globalThis.state = await states[state](ending === 'natural' ? SOON : NEVER);
  writeSync(1, 'now\n'); // a Worker's own stdout needs its main thread
  endings[ending]();
}

async function inWorker(state, ending) {
  const worker = new Worker(new URL(import.meta.url), { workerData: { state, ending } });
  worker.once('message', () => worker.terminate());
  worker.once('error', (error) => {
    if (!error.message.endsWith('on purpose')) throw error;
  });
  const code = await new Promise((resolve) => worker.once('exit', resolve));
  await noThreadsLeft();
  await expectUsable();
  process.exitCode = 40 + code;
}

if (isMainThread) {
  const [state, where, ending] = process.argv.slice(2);
  await (where === 'worker' ? inWorker : end)(state, ending);
} else {
  await end(workerData.state, workerData.ending);
}
