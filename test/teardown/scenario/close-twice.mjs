// Every handle is closed twice, one after the other and at the same time, alone and after what it belongs to: nothing rejects.
import { rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { addon, expectUsable, group, noThreadsLeft, open } from './addon.mjs';
import { filePlan, hashJob, MIB, scratchFolder, states, writeJob } from './states.mjs';

const runtime = await open();
const device = () => runtime.communicator(0);
const twice = async (close) => {
  await close();
  await close();
  await Promise.all([close(), close()]);
};
const closed = async (communicator) => {
  if (communicator.state !== 'closed') throw new Error(`a destroyed communicator is ${communicator.state}`);
};
/** abort and destroy in every order, on a communicator in some state. */
const orders = [
  (c) => twice(() => c.destroy(1_000)),
  (c) => twice(() => c.abort()).then(() => twice(() => c.destroy(1_000))),
  (c) => Promise.all([c.destroy(1_000), c.abort(), c.destroy(1_000), c.abort()]),
];

const cases = {
  async communicator() {
    for (const order of orders) {
      const fresh = await device();
      await order(fresh);
      await closed(fresh);
      const ready = await group(runtime, 2);
      await Promise.all(ready.map(order));
      await Promise.all(ready.map(closed));
    }
  },
  async busy() {
    for (const state of ['init', 'broadcast', 'transfer']) {
      for (const order of orders) {
        const { held, pending } = await states[state]({ deadlineMs: 600_000 });
        const communicators = [held].flat(2).filter((handle) => typeof handle.destroy === 'function');
        // destroy alone waits for what runs; the communicator is aborted first, as its users do.
        await Promise.all(communicators.map((communicator) => communicator.abort()));
        await Promise.all(communicators.map(order));
        await Promise.all(communicators.map(closed));
        if ((await pending.catch((error) => error.code)) !== 'WC_NCCL_ABORTED')
          throw new Error(`${state} ended`);
      }
    }
  },
  async buffer() {
    const communicator = await device();
    const [first, second] = await Promise.all([communicator.allocate(MIB), communicator.allocate(MIB)]);
    await twice(() => first.free());
    await communicator.destroy(1_000);
    await twice(() => second.free());
  },
  async transfer() {
    const communicator = await device();
    const [first, second] = [
      await communicator.prepare(filePlan(), 30_000),
      await communicator.prepare(filePlan(), 30_000),
    ];
    await twice(() => first.close());
    await communicator.destroy(1_000);
    await twice(() => second.close());
  },
  /** Closed while it runs: after it. */
  async transferRun() {
    const [sender, receiver] = await group(runtime, 2);
    const transfer = await sender.prepare(filePlan(), 30_000);
    const target = await receiver.allocate(MIB);
    const sent = transfer.run(30_000, null);
    const closing = twice(() => transfer.close());
    for (let frame = 0; frame < 64; frame += 1) {
      await receiver.broadcast({ buffer: target, offset: 0, byteLength: MIB, root: 0, timeoutMs: 30_000 });
    }
    await Promise.all([sent, closing]);
    await Promise.all([sender, receiver].map((communicator) => communicator.destroy(5_000)));
  },
  async hash() {
    const cancelled = addon.sha256(hashJob(50e9), null);
    for (let i = 0; i < 3; i += 1) cancelled.cancel();
    const code = await cancelled.result.catch((error) => error.code);
    if (code !== 'WC_NATIVE_CLOSED') throw new Error(`a cancelled job gave ${code}`);
    cancelled.cancel();
    const done = addon.sha256(hashJob(MIB), null);
    await done.result;
    done.cancel();
  },
  async write() {
    const folder = scratchFolder();
    try {
      const cancelled = addon.write(writeJob(join(folder, 'cancelled'), 2048 * MIB), null);
      for (let i = 0; i < 3; i += 1) cancelled.cancel();
      const code = await cancelled.result.catch((error) => error.code);
      if (code !== 'WC_NATIVE_CLOSED') throw new Error(`a cancelled job gave ${code}`);
      cancelled.cancel();
      const done = addon.write(writeJob(join(folder, 'done'), MIB), null);
      await done.result;
      done.cancel();
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
};

writeSync(1, 'now\n');
for (const close of Object.values(cases)) await close();
await noThreadsLeft();
await expectUsable();
process.exitCode = 6;
