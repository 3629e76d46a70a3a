/** A minimal sender: rank 0 as contracts/vllm.md describes it, with nothing of our wire formats or fleet in it. */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { emulatorLibraries, type NativeCommunicator, native } from '../../src/native.js';
import type { ReferenceEngine } from '../../src/testing/index.js';
import { pickleUniqueId } from '../../src/transports/nccl/rendezvous/unique-id.js';
import { startStoreServer } from '../../src/transports/nccl/store/server.js';
import { openCheckpoint } from '../../src/weights/checkpoint.js';

export interface SourceTensor {
  readonly name: string;
  readonly dtypeName: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** Every tensor of a checkpoint, in host memory. */
export async function readTensors(directory: string): Promise<SourceTensor[]> {
  const checkpoint = await openCheckpoint(directory);
  const tensors: SourceTensor[] = [];
  for (const { name, dtype, shape, range } of checkpoint.tensors) {
    if (range.kind !== 'file') {
      throw new Error(`${name} is not in a file`);
    }
    const file = await open(range.path, 'r');
    const bytes = new Uint8Array(range.byteLength);
    await file.read(bytes, 0, range.byteLength, range.offset);
    await file.close();
    tensors.push({ name, dtypeName: dtype.torchName ?? '', shape, bytes });
  }
  return tensors;
}

export const sha256 = (...parts: readonly Uint8Array[]): string =>
  createHash('sha256').update(Buffer.concat(parts)).digest('hex');

export interface Reply {
  readonly status: number;
  readonly body: unknown;
}

export async function post(engine: ReferenceEngine, path: string, body: unknown = {}): Promise<Reply> {
  const response = await fetch(`${engine.url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  return { status: response.status, body: text.startsWith('{') ? JSON.parse(text) : text };
}

export const info = (tensors: readonly SourceTensor[]): Record<string, unknown> => ({
  names: tensors.map((tensor) => tensor.name),
  dtype_names: tensors.map((tensor) => tensor.dtypeName),
  shapes: tensors.map((tensor) => tensor.shape),
});

const TIMEOUT_MS = 20_000;

/** Rank 0 of a group with engines. */
export class Rank0 {
  readonly communicator: NativeCommunicator;

  private constructor(communicator: NativeCommunicator) {
    this.communicator = communicator;
  }

  /** Forms a group with all workers of the engines, in order; `extra` goes into every init_info. */
  static async join(
    engines: readonly ReferenceEngine[],
    options: { readonly inline?: boolean; readonly extra?: Record<string, unknown> } = {},
  ): Promise<Rank0> {
    const runtime = await native().open(emulatorLibraries.cuda, emulatorLibraries.nccl);
    const uniqueId = await runtime.uniqueId();
    const store = await startStoreServer({ host: '127.0.0.1', port: 0 });
    store.set('/broadcast_from/0/0', pickleUniqueId(uniqueId));
    const worldSize = engines.reduce((sum, engine) => sum + engine.workers.length, 1);
    const communicator = await runtime.communicator(0);
    try {
      let rankOffset = 1;
      const replies = engines.map((engine) => {
        const seat = { rank_offset: rankOffset, world_size: worldSize, ...options.extra };
        rankOffset += engine.workers.length;
        const where = options.inline
          ? { nccl_unique_id_b64: Buffer.from(uniqueId).toString('base64') }
          : { master_address: '127.0.0.1', master_port: store.port };
        return post(engine, '/init_weight_transfer_engine', { init_info: { ...where, ...seat } });
      });
      await communicator.init({ uniqueId, worldSize, rank: 0, timeoutMs: TIMEOUT_MS });
      await communicator.allReduce(Float32Array.of(0), TIMEOUT_MS);
      for (const reply of await Promise.all(replies)) {
        if (reply.status !== 200) {
          throw new Error(`init: ${JSON.stringify(reply)}`);
        }
      }
    } finally {
      await store.close();
    }
    return new Rank0(communicator);
  }

  /** One broadcast of the concatenated bytes. */
  async broadcast(...parts: readonly Uint8Array[]): Promise<void> {
    const bytes = Buffer.concat(parts);
    const buffer = await this.communicator.allocate(bytes.length);
    await buffer.write(0, bytes);
    await this.communicator.broadcast({
      buffer,
      offset: 0,
      byteLength: bytes.length,
      root: 0,
      timeoutMs: TIMEOUT_MS,
    });
    await buffer.free();
  }

  async abort(): Promise<void> {
    await this.communicator.abort();
  }
}
