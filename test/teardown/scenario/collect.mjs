// collect.mjs idle|busy <kind>: a handle that nobody holds any more is collected as garbage.
// Idle: what it owned goes with it. Busy: the operation under way ends as if somebody held it.
import { createHash } from 'node:crypto';
import { readFileSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { addon, addonThreads, expectUsable, group, nextTurn, noThreadsLeft, open, until } from './addon.mjs';
import { filePlan, hashJob, MIB, scratchFolder, writeJob } from './states.mjs';

const runtime = await open();
const folder = scratchFolder();
const threads = (name) => addonThreads().filter((thread) => thread === name).length;

/** Collects until `holds()`. */
const collectUntil = (holds, what) =>
  until(() => {
    globalThis.gc();
    return holds();
  }, what);

/** Collects until the promise settles, and a little longer. */
async function collectDuring(pending) {
  let settled = false;
  const watched = pending.finally(() => {
    settled = true;
  });
  watched.catch(() => {});
  await collectUntil(() => settled, 'the operation ended');
  globalThis.gc();
  return watched;
}

function expectEqual(actual, expected, what) {
  if (actual !== expected) throw new Error(`${what} is ${actual}, not ${expected}`);
}

/** Makes a handle, drops it, and waits until the collector has taken it. */
async function dropped(make) {
  let taken = false;
  const registry = new FinalizationRegistry(() => {
    taken = true;
  });
  await (async () => registry.register(await make()))();
  await collectUntil(() => taken, 'the handle was collected');
}

const device = () => runtime.communicator(0);

const idle = {
  runtime: () => dropped(() => open()),
  async communicator() {
    await dropped(device);
    await collectUntil(() => threads('wc-communicator') === 0, 'its thread ended');
  },
  /** The device has no room for two. */
  async buffer() {
    const communicator = await device();
    await dropped(() => communicator.allocate(8 * MIB));
    await communicator.allocate(8 * MIB);
  },
  /** Prepared and never sent: its readers wait for room. */
  async transfer() {
    const communicator = await device();
    await dropped(() => communicator.prepare(filePlan(), 30_000));
    await until(() => threads('wc-reader') === 0, 'its readers ended');
    expectEqual(communicator.state, 'idle', 'the communicator');
  },
  /** Its job is done. */
  hash: () =>
    dropped(async () => {
      const job = addon.sha256(hashJob(MIB), null);
      await job.result;
      return job;
    }),
  /** Its job is done. */
  write: () =>
    dropped(async () => {
      const job = addon.write(writeJob(join(folder, 'idle'), MIB), null);
      await job.result;
      return job;
    }),
};

const file = readFileSync(process.execPath).subarray(0, 64 * MIB);
const hex = (bytes) => Buffer.from(bytes).toString('hex');
const expected = createHash('sha256').update(file).digest('hex');

async function filled() {
  const buffer = await (await device()).allocate(file.length);
  await buffer.write(0, file);
  return buffer;
}

const ranges = [{ offset: 0, byteLength: file.length }];
/** A receiver that stays, and a sender that the caller drops. */
async function pair() {
  const [sender, receiver] = await group(runtime, 2);
  return { sender, receiver, target: await receiver.allocate(file.length) };
}
const receive = (receiver, buffer, offset, byteLength) =>
  receiver.broadcast({ buffer, offset, byteLength, root: 0, timeoutMs: 30_000 });

const busy = {
  async runtime() {
    const pending = (await open()).uniqueId();
    expectEqual((await collectDuring(pending)).length, 128, 'the length of the id');
  },
  /** init, allReduce, allocate, asyncError: of a communicator that only its own operations hold. */
  async communicator() {
    const uniqueId = await runtime.uniqueId();
    const join = async (rank) => {
      const communicator = await device();
      await communicator.init({ uniqueId, worldSize: 2, rank, timeoutMs: 30_000 });
      const [sum] = await communicator.allReduce(Float32Array.of(2), 30_000);
      const buffer = await communicator.allocate(sum);
      return (async () => [buffer.byteLength, await communicator.asyncError()].join())();
    };
    const ended = await collectDuring(Promise.all([join(0), join(1)]));
    expectEqual(ended.join(' '), '4,0 4,0', 'what both say');
  },
  async buffer() {
    const read = await collectDuring((async () => (await filled()).read(0, file.length))());
    expectEqual(hex(createHash('sha256').update(read).digest()), expected, 'the digest of what was read');
    const [digest] = await collectDuring((async () => (await filled()).sha256(ranges))());
    expectEqual(hex(digest), expected, 'the digest on the device');
    const copy = async () => {
      const communicator = await device();
      const [source, target] = await Promise.all([1, 2].map(() => communicator.allocate(file.length)));
      await source.write(0, file);
      const whole = { sourceOffset: 0, blockBytes: file.length, strideBytes: file.length, count: 1 };
      await target.copyFrom(source, { ...whole, targetOffset: 0 });
      return target.sha256(ranges);
    };
    const [copied] = await collectDuring(copy());
    expectEqual(hex(copied), expected, 'the digest of the copy');
    const write = async () => (await (await device()).allocate(file.length)).write(0, Uint8Array.from(file));
    await collectDuring(write());
  },
  async broadcast() {
    const { sender, receiver, target } = await pair();
    const buffer = await sender.allocate(file.length);
    await buffer.write(0, file);
    const options = { buffer, offset: 0, byteLength: file.length, root: 0, timeoutMs: 30_000 };
    const pending = sender.broadcast(options);
    options.buffer = null;
    await Promise.all([collectDuring(pending), receive(receiver, target, 0, file.length)]);
    expectEqual(hex((await target.sha256(ranges))[0]), expected, 'the digest of what arrived');
  },
  async transfer() {
    const { receiver, target, pending } = await (async () => {
      const { sender, ...rest } = await pair();
      return { ...rest, pending: (await sender.prepare(filePlan(), 30_000)).run(30_000, () => {}) };
    })();
    const received = [];
    for (let at = 0; at < file.length; at += MIB) received.push(receive(receiver, target, at, MIB));
    const [stats] = await Promise.all([collectDuring(pending), ...received]);
    expectEqual(stats.frames, 64, 'the number of frames');
    expectEqual(hex((await target.sha256(ranges))[0]), expected, 'the digest of what arrived');
  },
  async hash() {
    const digests = await collectDuring(addon.sha256(hashJob(file.length), () => {}).result);
    expectEqual(hex(digests), expected, 'the digest');
  },
  /** From a file, and from device buffers that nobody else holds. */
  async write() {
    const target = join(folder, 'busy');
    const fromFile = await collectDuring(addon.write(writeJob(target, file.length), () => {}).result);
    const fromDevices = await collectDuring(
      (async () =>
        addon.write(writeJob(`${target}-devices`, 0, [await filled(), await filled()]), null).result)(),
    );
    expectEqual(hex(fromFile.digests), expected, 'the digest of the file');
    expectEqual(hex(fromDevices.digests), expected.repeat(2), 'the digests of the buffers');
    const written = createHash('sha256').update(readFileSync(target)).digest('hex');
    expectEqual(written, expected, 'the digest of what was written');
  },
};

const [how, kind] = process.argv.slice(2);
writeSync(1, 'now\n');
try {
  await { idle, busy }[how][kind]();
} finally {
  rmSync(folder, { recursive: true });
}
await nextTurn();
await collectUntil(() => addonThreads().length === 0, 'no thread of the addon is left').catch(noThreadsLeft);
await expectUsable();
process.exitCode = 6;
