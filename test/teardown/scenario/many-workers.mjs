// many-workers.mjs <seed>: 20 Workers at once, each in the middle of something, end at seeded random instants.
import { writeSync } from 'node:fs';
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { expectUsable, noThreadsLeft } from './addon.mjs';
import { random } from './random.mjs';
import { states } from './states.mjs';

const WORKERS = 20;
const LATEST_MS = 400;

function start(next) {
  const names = Object.keys(states);
  const state = names[Math.floor(next() * names.length)];
  const ending = next() < 0.7 ? 'terminate' : 'exit';
  const afterMs = next() * LATEST_MS;
  const worker = new Worker(new URL(import.meta.url), { workerData: { state, ending, afterMs } });
  if (ending === 'terminate') setTimeout(() => worker.terminate(), afterMs);
  return new Promise((resolve, reject) => {
    worker.once('error', reject);
    worker.once('exit', resolve);
  });
}

if (isMainThread) {
  const next = random(Number(process.argv[2]));
  writeSync(1, 'now\n');
  await Promise.all(Array.from({ length: WORKERS }, () => start(next)));
  await noThreadsLeft();
  await expectUsable();
  process.exitCode = 6;
} else {
  if (workerData.ending === 'exit') setTimeout(() => process.exit(4), workerData.afterMs);
  globalThis.state = await states[workerData.state]({ deadlineMs: 600_000, jobBytes: 50e9 });
  setInterval(() => {}, 60_000);
}
