// What the addon can be doing when its process or its Worker ends. Each state gives what to hold, and the operation under way, if any.
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { addon, group, nextTurn, open, until } from './addon.mjs';

export const MIB = 1 << 20;
/** NCCL and its emulation complete a small send before it is received; this one waits for every receiver. */
const STALLS = 64 * MIB;
/** Of a job that should still run at the end: the disk has room for some of them. */
const MOST_WRITTEN = 2048 * MIB;

/** Rank 0 of three whose others are processes of the test, or, without those, of two with an idle rank 1 beside it. */
async function joinGroup(runtime) {
  const outside = process.env.WEIGHTCAST_TEST_UNIQUE_ID;
  if (outside === undefined) return group(runtime, 2);
  const communicator = await runtime.communicator(0);
  const uniqueId = Uint8Array.from(Buffer.from(outside, 'hex'));
  await communicator.init({ uniqueId, worldSize: 3, rank: 0, timeoutMs: 30_000 });
  return [communicator];
}

/** 64 frames of 1 MiB from Node's own binary, through less staging than that. */
export function filePlan() {
  const frames = STALLS / MIB;
  return {
    files: [process.execPath],
    fileSizes: Float64Array.of(statSync(process.execPath).size),
    rangeKind: new Uint8Array(frames),
    rangeSource: new Uint32Array(frames),
    rangeOffset: Float64Array.from({ length: frames }, (_, index) => index * MIB),
    rangeLength: new Float64Array(frames).fill(MIB),
    frameRanges: new Uint32Array(frames).fill(1),
    deviceBuffers: [],
    hostBytes: new Uint8Array(),
    slots: 2,
    slotBytes: 4 * MIB,
    pieces: 2,
    pieceBytes: MIB,
    root: 0,
  };
}

/** One digest over the first 64 MiB of Node's own binary, as often as it takes to make `bytes`. */
export function hashJob(bytes) {
  const segments = Math.ceil(bytes / STALLS);
  const blockBytes = Math.min(bytes, STALLS);
  return {
    files: [process.execPath],
    segmentFile: new Uint32Array(segments),
    segmentOffset: new Float64Array(segments),
    segmentBlockBytes: new Float64Array(segments).fill(blockBytes),
    segmentStrideBytes: new Float64Array(segments).fill(blockBytes),
    segmentBlocks: new Float64Array(segments).fill(1),
    digestSegments: Uint32Array.of(segments),
    threads: 1,
  };
}

/** One target of `bytes` from the first 64 MiB of Node's own binary, again and again; or from the whole of device buffers. */
export function writeJob(target, bytes, deviceBuffers = []) {
  const devices = deviceBuffers.length;
  const ranges = devices || Math.ceil(bytes / STALLS);
  return {
    files: devices ? [] : [process.execPath],
    fileSizes: devices ? new Float64Array() : Float64Array.of(statSync(process.execPath).size),
    rangeKind: new Uint8Array(ranges).fill(devices ? 1 : 0),
    rangeSource: Uint32Array.from({ length: ranges }, (_, index) => (devices ? index : 0)),
    rangeOffset: new Float64Array(ranges),
    rangeLength: devices
      ? Float64Array.from(deviceBuffers, ({ byteLength }) => byteLength)
      : new Float64Array(ranges).fill(Math.min(bytes, STALLS)),
    deviceBuffers,
    hostBytes: new Uint8Array(),
    targets: [target],
    targetRanges: Uint32Array.of(ranges),
    digest: true,
    sync: false,
    threads: 1,
  };
}

export const scratchFolder = () => mkdtempSync(join(tmpdir(), 'weightcast-scenario-'));

/** `use` gets a path; whatever comes to lie there is removed, or, where it is still open by then, when that ends. */
async function withTarget(use) {
  const folder = scratchFolder();
  try {
    return await use(join(folder, 'target'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function prepare() {
  const runtime = await open();
  const ranks = await joinGroup(runtime);
  return { ranks, transfer: await ranks[0].prepare(filePlan(), 10_000) };
}

/** Every operation ends at `deadlineMs` by itself; a job, which has no deadline, after `jobBytes`. */
export const states = {
  async idle() {
    return { held: await open(), pending: null };
  },
  async buffers() {
    const communicator = await (await open()).communicator(0);
    const held = await Promise.all([MIB, 3 * MIB, 1].map((size) => communicator.allocate(size)));
    await held[0].write(0, new Uint8Array(MIB).fill(7));
    return { held: [communicator, ...held], pending: null };
  },
  /** A rank never comes. */
  async init({ deadlineMs }) {
    const runtime = await open();
    const communicator = await runtime.communicator(0);
    const uniqueId = await runtime.uniqueId();
    const pending = communicator.init({ uniqueId, worldSize: 2, rank: 0, timeoutMs: deadlineMs });
    pending.catch(() => {});
    await until(() => communicator.state === 'initializing', 'the init began');
    return { held: communicator, pending };
  },
  async ready() {
    return { held: await joinGroup(await open()), pending: null };
  },
  /** A rank never calls. */
  async broadcast({ deadlineMs }) {
    const ranks = await joinGroup(await open());
    const buffer = await ranks[0].allocate(STALLS);
    const before = buffer.read(0, 1);
    const pending = ranks[0].broadcast({
      buffer,
      offset: 0,
      byteLength: STALLS,
      root: 0,
      timeoutMs: deadlineMs,
    });
    pending.catch(() => {});
    await before; // the broadcast is next on that thread
    await nextTurn();
    return { held: [ranks, buffer], pending };
  },
  async prepared() {
    return { held: await prepare(), pending: null };
  },
  /** A rank never calls. */
  async transfer({ deadlineMs }) {
    const { ranks, transfer } = await prepare();
    const pending = transfer.run(deadlineMs, () => {});
    pending.catch(() => {});
    await until(() => transfer.framesIssued > 0, 'the first frame left');
    return { held: [ranks, transfer], pending };
  },
  async sha256({ jobBytes }) {
    let progress = 0;
    const job = addon.sha256(hashJob(jobBytes), (bytes) => {
      progress = bytes;
    });
    job.result.catch(() => {});
    await until(() => progress > 0, 'the job made progress');
    return { held: job, pending: job.result };
  },
  write: ({ jobBytes }) =>
    withTarget(async (target) => {
      let progress = 0;
      const job = addon.write(writeJob(target, Math.min(jobBytes, MOST_WRITTEN)), (bytes) => {
        progress = bytes;
      });
      job.result.catch(() => {});
      await until(() => progress > 0, 'the job made progress');
      return { held: job, pending: job.result };
    }),
  /** From a device whose thread waits for a rank that never calls. */
  writeDevice: ({ deadlineMs }) =>
    withTarget(async (target) => {
      const { held, pending } = await states.broadcast({ deadlineMs });
      const job = addon.write(writeJob(target, 0, [held[1]]), () => {});
      job.result.catch(() => {});
      await until(() => existsSync(target), 'the target was created');
      return { held: [held, job], pending: Promise.allSettled([pending, job.result]) };
    }),
};
