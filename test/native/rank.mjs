// One rank in a process of its own, driven over IPC: { id, operation, argument } → { id, value } or { id, error }.
import { readdirSync } from 'node:fs';
import { native } from '../../dist/native.js';

let runtime;
let communicator;
let buffer;

/** A transfer of `byteLength` zeros in one frame. */
const zeros = (byteLength) => ({
  files: [],
  fileSizes: new Float64Array(),
  rangeKind: Uint8Array.of(2),
  rangeSource: Uint32Array.of(0),
  rangeOffset: Float64Array.of(0),
  rangeLength: Float64Array.of(byteLength),
  frameRanges: Uint32Array.of(1),
  deviceBuffers: [],
  hostBytes: new Uint8Array(byteLength),
  slots: 2,
  slotBytes: byteLength,
  pieces: 2,
  pieceBytes: 65_536,
  root: 0,
});

const operations = {
  async open({ callLimitMs = null }) {
    await operations.libraries({ callLimitMs });
    await operations.communicator();
  },
  async libraries({ callLimitMs = null }) {
    const { WEIGHTCAST_TEST_CUDA, WEIGHTCAST_TEST_NCCL } = process.env;
    runtime = await native().open(WEIGHTCAST_TEST_CUDA, WEIGHTCAST_TEST_NCCL, callLimitMs);
    return runtime.ncclVersion;
  },
  async communicator({ timeoutMs = null } = {}) {
    communicator = await runtime.communicator(0, timeoutMs);
  },
  memory: ({ timeoutMs = null }) => runtime.memory(0, timeoutMs),
  async uniqueId({ timeoutMs = null }) {
    return Buffer.from(await runtime.uniqueId(timeoutMs)).toString('hex');
  },
  async join({ uniqueId, worldSize, rank, timeoutMs }) {
    await communicator.init({ uniqueId: Uint8Array.from(uniqueId), worldSize, rank, timeoutMs });
  },
  async allReduce({ values }) {
    return Array.from(await communicator.allReduce(Float32Array.from(values), 10_000));
  },
  /** Receives frames one broadcast each and gives the SHA-256 of all bytes in order. */
  async receive({ frames, root, timeoutMs = 10_000 }) {
    const byteLength = frames.reduce((sum, length) => sum + length, 0);
    const buffer = await communicator.allocate(byteLength);
    let offset = 0;
    for (const length of frames) {
      await communicator.broadcast({ buffer, offset, byteLength: length, root, timeoutMs });
      offset += length;
    }
    const [digest] = await buffer.sha256([{ offset: 0, byteLength }]);
    await buffer.free();
    return Buffer.from(digest).toString('hex');
  },
  /** Opens another process's device memory and gives the SHA-256 of its first byteLength bytes. */
  async digestOfShared({ handle, byteLength }) {
    const buffer = await communicator.openIpc(Uint8Array.from(handle), byteLength);
    const [digest] = await buffer.sha256([{ offset: 0, byteLength }]);
    await buffer.free();
    return Buffer.from(digest).toString('hex');
  },
  async leave({ timeoutMs = 5_000 }) {
    await communicator.destroy(timeoutMs);
  },
  async abort() {
    await communicator.abort();
  },
  state: () => communicator.state,
  asyncError: ({ timeoutMs = null }) => communicator.asyncError(timeoutMs),
  /** A group of this process alone, or with ranks that never come. */
  async initAlone({ worldSize = 1, timeoutMs = 10_000 }) {
    await communicator.init({ uniqueId: await runtime.uniqueId(), worldSize, rank: 0, timeoutMs });
  },
  /** Begins an init of two ranks, which is aborted at once. */
  async abortInit() {
    await operations.communicator();
    const init = operations.initAlone({ worldSize: 2 }).catch((error) => error);
    while (communicator.state === 'idle') await new Promise(setImmediate);
    await communicator.abort();
    await communicator.destroy(1_000);
    await init;
  },
  async allocate({ byteLength }) {
    buffer = await communicator.allocate(byteLength);
  },
  free: () => buffer.free(),
  async write() {
    await buffer.write(0, Uint8Array.of(1));
  },
  async read() {
    await buffer.read(0, 1);
  },
  broadcast: ({ byteLength, root = 0, timeoutMs = 10_000 }) =>
    communicator.broadcast({ buffer, offset: 0, byteLength, root, timeoutMs }),
  async prepare({ byteLength, timeoutMs = 10_000 }) {
    await (await communicator.prepare(zeros(byteLength), timeoutMs)).close();
  },
  exit: () => process.exit(9),
  threads: () => readdirSync('/proc/self/task').length,
};

process.on('message', async ({ id, operation, argument }) => {
  try {
    process.send({ id, value: await operations[operation](argument) });
  } catch (error) {
    const { code, message, remedy, details } = error;
    process.send({ id, error: { code, message, remedy, details } });
  }
});
