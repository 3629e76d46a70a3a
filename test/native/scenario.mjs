// Ends a process, or a Worker, in the middle of something; exits.test.ts looks at how it ends.
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

const addon = createRequire(import.meta.url)(process.env.WEIGHTCAST_ADDON);
const open = () => addon.open(process.env.WEIGHTCAST_TEST_CUDA, process.env.WEIGHTCAST_TEST_NCCL);

/** An init whose peer never comes. */
async function startInit() {
  const runtime = await open();
  const communicator = await runtime.communicator(0);
  const pending = communicator.init({
    uniqueId: await runtime.uniqueId(),
    worldSize: 2,
    rank: 0,
    timeoutMs: 600_000,
  });
  while (communicator.state !== 'initializing') await new Promise(setImmediate);
  return { communicator, pending };
}

/** A broadcast whose receiver never calls. */
async function startBroadcast() {
  const runtime = await open();
  const [sender, receiver] = await Promise.all([runtime.communicator(0), runtime.communicator(0)]);
  const uniqueId = await runtime.uniqueId();
  const join = (communicator, rank) => communicator.init({ uniqueId, worldSize: 2, rank, timeoutMs: 10_000 });
  await Promise.all([join(sender, 0), join(receiver, 1)]);
  const buffer = await sender.allocate(64 << 20);
  const pending = sender.broadcast({
    buffer,
    offset: 0,
    byteLength: 64 << 20,
    root: 0,
    timeoutMs: 600_000,
  });
  // A read queued behind it is not answered: the thread is inside the broadcast.
  const answered = await Promise.race([
    buffer.read(0, 1).then(() => true),
    new Promise((resolve) => setTimeout(resolve, 100, false)),
  ]);
  if (answered) throw new Error('the broadcast did not wait for its receiver');
  return { communicator: sender, receiver, pending };
}

async function startHash() {
  const pending = addon.sha256(
    {
      files: [process.execPath],
      segmentFile: new Uint32Array(1000),
      segmentOffset: new Float64Array(1000),
      segmentBlockBytes: new Float64Array(1000).fill(50e6),
      segmentStrideBytes: new Float64Array(1000).fill(50e6),
      segmentBlocks: new Float64Array(1000).fill(1),
      digestSegments: new Uint32Array([1000]),
      threads: 1,
    },
    null,
  ).result;
  return { pending };
}

const starts = { init: startInit, broadcast: startBroadcast, hash: startHash };

const scenarios = {
  /** process.exit while it runs */
  async exit(start) {
    (await start()).pending.catch(() => {});
    process.stdout.write('now\n');
    process.exit(7);
  },
  /** an uncaught error while it runs */
  async throw(start) {
    (await start()).pending.catch(() => {});
    process.stdout.write('now\n');
    setImmediate(() => {
      throw new Error('thrown on purpose');
    });
  },
  /** a Worker is terminated while it runs; the main thread then ends by itself */
  async terminate(_start, what) {
    const worker = new Worker(new URL(import.meta.url), { workerData: { what, how: 'hold' } });
    await new Promise((resolve) => worker.once('message', resolve));
    process.stdout.write('now\n');
    await worker.terminate();
    process.exitCode = 5;
  },
  /** a Worker calls process.exit while it runs */
  async workerExit(_start, what) {
    const worker = new Worker(new URL(import.meta.url), { workerData: { what, how: 'exit' } });
    const code = await new Promise((resolve) => worker.once('exit', resolve));
    process.stdout.write('now\n');
    process.exitCode = code;
  },
  /** handles that nobody holds any more: their threads end, though nobody closed them */
  async collect() {
    const threads = () =>
      readdirSync('/proc/self/task').filter((task) => {
        try {
          return readFileSync(`/proc/self/task/${task}/comm`, 'utf8').startsWith('wc-communicator');
        } catch {
          return false; // it ended since it was listed
        }
      }).length;
    await (async () => {
      const communicator = await (await open()).communicator(0);
      await communicator.allocate(1 << 20);
    })();
    if (threads() !== 1) throw new Error('the communicator has no thread');
    process.stdout.write('now\n');
    while (threads() > 0) {
      globalThis.gc();
      await new Promise(setImmediate);
    }
    process.exitCode = 6;
  },
  /** nothing is pending: an open communicator does not hold the process */
  async forget() {
    await (await open()).communicator(0);
    process.stdout.write('now\n');
    process.exitCode = 3;
  },
};

if (isMainThread) {
  const [how, what] = process.argv[2].split('-');
  await scenarios[how](starts[what], what);
} else {
  const held = await starts[workerData.what]();
  held.pending.catch(() => {});
  if (workerData.how === 'exit') process.exit(4);
  parentPort.postMessage('holding');
  globalThis.held = held;
}
