// stuck.mjs <call>: a Worker, and then its process, ends in the middle of that call of a library, which never returns (the emulator's `hang` fault).
import { writeSync } from 'node:fs';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { nextTurn, open, until } from './addon.mjs';

/** What leads into each call; the promises that hang are left alone. */
const calls = {
  ncclGetUniqueId: (runtime) => detached(runtime.uniqueId()),
  async cuMemAlloc(runtime) {
    detached((await runtime.communicator(0)).allocate(4_096));
  },
  async ncclCommInitRankConfig(runtime) {
    const communicator = await runtime.communicator(0);
    detached(init(communicator, await runtime.uniqueId(), 1));
    await until(() => communicator.state === 'initializing', 'the init began');
    return communicator;
  },
  async ncclCommAbort(runtime) {
    const communicator = await runtime.communicator(0);
    detached(init(communicator, await runtime.uniqueId(), 2));
    await until(() => communicator.state === 'initializing', 'the init began');
    detached(communicator.abort());
    return communicator;
  },
};

const init = (communicator, uniqueId, worldSize) =>
  communicator.init({ uniqueId, worldSize, rank: 0, timeoutMs: 600_000 });

function detached(promise) {
  promise.catch(() => {});
}

if (isMainThread) {
  const worker = new Worker(new URL(import.meta.url), { workerData: process.argv[2] });
  await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
  writeSync(1, 'now\n');
  await worker.terminate();
  process.exitCode = 6;
} else {
  globalThis.held = await calls[workerData](await open());
  for (let turn = 0; turn < 20; turn += 1) await nextTurn();
  setInterval(() => {}, 60_000);
  parentPort.postMessage('inside');
}
