/** One rank in a process of its own, driven over IPC: NCCL's settings are a process's, and a rank can be killed. */
import { randomBytes } from 'node:crypto';
import {
  emulatorLibraries,
  type NativeCommunicator,
  type NativeDeviceBuffer,
  type NativePlan,
  type NativeRuntime,
  native,
} from '#weightcast/native.js';
import { stagingFor } from '#weightcast/transports/nccl/wire/memory.js';
import { planWire } from '#weightcast/transports/nccl/wire/plan.js';
import { openCheckpoint } from '#weightcast/weights/checkpoint.js';
import { flattenPlan } from '#weightcast/weights/flatten.js';
import { orderForLoading } from '#weightcast/weights/order.js';
import type { Answer, Operation, Operations, Request, TransferOrder } from './protocol.js';

const MIB = 2 ** 20;
/** 'emulated' opens the emulator: it shows that the lane itself works, where there is no GPU. */
const emulate = process.env['WEIGHTCAST_GPU_LANE'] === 'emulated';

let runtime: NativeRuntime | null = null;
let communicator: NativeCommunicator | null = null;
const buffers = new Map<number, NativeDeviceBuffer>();

function present<T>(value: T | null | undefined, what: string): T {
  if (value === null || value === undefined) throw new Error(`no ${what}`);
  return value;
}

const rank = (): NativeCommunicator => present(communicator, 'communicator: open first');
const bufferOf = (number: number): NativeDeviceBuffer => present(buffers.get(number), `buffer ${number}`);

function keep(buffer: NativeDeviceBuffer): number {
  const number = buffers.size + 1;
  buffers.set(number, buffer);
  return number;
}

async function elapsed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

/** One random MiB, doubled on the device until the buffer is full. */
async function fill(buffer: NativeDeviceBuffer): Promise<void> {
  let filled = Math.min(MIB, buffer.byteLength);
  await buffer.write(0, randomBytes(filled));
  while (filled < buffer.byteLength) {
    const more = Math.min(filled, buffer.byteLength - filled);
    await buffer.copyFrom(buffer, {
      sourceOffset: 0,
      blockBytes: more,
      strideBytes: more,
      count: 1,
      targetOffset: filled,
    });
    filled += more;
  }
}

function planOf({ source, frameBytes, rangeBytes }: TransferOrder): NativePlan {
  const offsets: number[] = [];
  const lengths: number[] = [];
  const frameRanges: number[] = [];
  for (let frame = 0; frame < source.byteLength; frame += frameBytes) {
    const end = Math.min(frame + frameBytes, source.byteLength);
    const before = offsets.length;
    for (let at = frame; at < end; at += rangeBytes) {
      offsets.push(at);
      lengths.push(Math.min(rangeBytes, end - at));
    }
    frameRanges.push(offsets.length - before);
  }
  const file = source.kind === 'file';
  return {
    files: file ? [source.path] : [],
    fileSizes: Float64Array.from(file ? [source.byteLength] : []),
    rangeKind: new Uint8Array(offsets.length).fill(file ? 0 : 1),
    rangeSource: new Uint32Array(offsets.length),
    rangeOffset: Float64Array.from(offsets),
    rangeLength: Float64Array.from(lengths),
    frameRanges: Uint32Array.from(frameRanges),
    deviceBuffers: file ? [] : [bufferOf(source.buffer)],
    hostBytes: new Uint8Array(),
    slots: 2,
    slotBytes: Math.max(64 * MIB, Math.min(frameBytes, source.byteLength)),
    pieces: 4,
    pieceBytes: 16 * MIB,
    root: 0,
  };
}

async function wireOf(path: string, bufferBytes: number) {
  const { tensors, files } = await openCheckpoint(path);
  return { wire: planWire(orderForLoading(tensors), { bufferBytes, numBuffers: 2 }), files };
}

const operations: {
  [Name in Operation]: (argument: Operations[Name][0]) => Promise<Operations[Name][1]>;
} = {
  async open({ device }) {
    runtime = emulate
      ? await native().open(emulatorLibraries.cuda, emulatorLibraries.nccl)
      : await native().open(null, null);
    communicator = await runtime.communicator(device);
    return {
      ncclVersion: runtime.ncclVersion,
      cudaLibrary: runtime.cudaLibrary,
      ncclLibrary: runtime.ncclLibrary,
      cudaVersion: runtime.cudaDriverVersion,
      device: runtime.devices()[device]?.name ?? 'unknown',
      emulated: runtime.emulated,
    };
  },
  uniqueId: async () => Buffer.from(await present(runtime, 'runtime').uniqueId()).toString('base64'),
  join: ({ uniqueId, ...seat }) =>
    elapsed(() => rank().init({ ...seat, uniqueId: Buffer.from(uniqueId, 'base64') })),
  allocate: async ({ byteLength }) => keep(await rank().allocate(byteLength)),
  async free({ buffer }) {
    await bufferOf(buffer).free();
    return null;
  },
  async fill({ buffer, digest }) {
    const target = bufferOf(buffer);
    await fill(target);
    return digest ? await digestOf(target, target.byteLength) : null;
  },
  digest: ({ buffer, byteLength }) => digestOf(bufferOf(buffer), byteLength),
  broadcast: ({ buffer, ...options }) =>
    elapsed(() => rank().broadcast({ ...options, buffer: bufferOf(buffer), root: 0 })),
  receive: ({ buffer, byteLength, frameBytes, keep: inOrder, timeoutMs }) =>
    elapsed(async () => {
      for (let at = 0; at < byteLength; at += frameBytes) {
        await rank().broadcast({
          buffer: bufferOf(buffer),
          offset: inOrder ? at : 0,
          byteLength: Math.min(frameBytes, byteLength - at),
          root: 0,
          timeoutMs,
        });
      }
    }),
  async transfer(order) {
    const transfer = await rank().prepare(planOf(order), order.timeoutMs);
    try {
      return await transfer.run(order.timeoutMs, null);
    } finally {
      await transfer.close();
    }
  },
  async describe({ checkpoint, bufferBytes }) {
    const { wire } = await wireOf(checkpoint, bufferBytes);
    return wire.tensors.map(({ name, dtypeName, shape }) => [name, dtypeName, shape]);
  },
  async push({ checkpoint, bufferBytes, timeoutMs }) {
    const { wire, files } = await wireOf(checkpoint, bufferBytes);
    await rank().allReduce(new Float32Array([0]), timeoutMs);
    const transfer = await rank().prepare(flattenPlan(wire.frames, files, stagingFor(wire)), timeoutMs);
    try {
      return await transfer.run(timeoutMs, null);
    } finally {
      await transfer.close();
    }
  },
  gather: ({ target, source, ...blocks }) =>
    elapsed(() =>
      bufferOf(target).copyFrom(bufferOf(source), { ...blocks, sourceOffset: 0, targetOffset: 0 }),
    ),
  ipcHandle: async ({ buffer }) => Buffer.from(await bufferOf(buffer).ipcHandle()).toString('base64'),
  async openIpc({ handle, byteLength }) {
    const began = performance.now();
    const buffer = await rank().openIpc(Buffer.from(handle, 'base64'), byteLength);
    const ms = performance.now() - began;
    return { buffer: keep(buffer), ms };
  },
  asyncError: () => rank().asyncError(),
  async abort() {
    await rank().abort();
    return null;
  },
  async leave() {
    await rank().destroy(10_000);
    return null;
  },
};

async function digestOf(buffer: NativeDeviceBuffer, byteLength: number): Promise<string> {
  const [digest] = await buffer.sha256([{ offset: 0, byteLength }]);
  return Buffer.from(present(digest, 'digest')).toString('hex');
}

process.on('message', async ({ id, operation, argument }: Request) => {
  const answer = await (operations[operation] as (argument: unknown) => Promise<unknown>)(argument).then(
    (value): Answer => ({ id, value }),
    (error: Error & { code?: string }): Answer => ({
      id,
      error: { code: error.code ?? 'UNKNOWN', message: error.message },
    }),
  );
  process.send?.(answer);
});
