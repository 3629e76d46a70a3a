// One rank in a process of its own, driven over IPC: { id, operation, argument } → { id, value } or { id, error }.
import { createRequire } from 'node:module';

const addon = createRequire(import.meta.url)(process.env.WEIGHTCAST_ADDON);
let runtime;
let communicator;

const operations = {
  async open() {
    runtime = await addon.open(process.env.WEIGHTCAST_TEST_CUDA, process.env.WEIGHTCAST_TEST_NCCL);
    communicator = await runtime.communicator(0);
  },
  async uniqueId() {
    return Buffer.from(await runtime.uniqueId()).toString('hex');
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
  async leave() {
    await communicator.destroy(5_000);
  },
};

process.on('message', async ({ id, operation, argument }) => {
  try {
    process.send({ id, value: await operations[operation](argument) });
  } catch (error) {
    process.send({ id, error: `${error.code}: ${error.message}` });
  }
});
