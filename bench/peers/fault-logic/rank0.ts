/**
 * Rank 0 as both peers have it: vLLM's StatelessProcessGroup.create and PyNcclCommunicator (vllm/distributed/utils.py and
 * device_communicators/pynccl.py, 0.32.0), and broadcasts of weights that it holds in memory. The store has a deadline; nothing in NCCL has one. Only
 * the logic of a peer is held against ours, so the bytes travel through our addon.
 */
import type { NativeCommunicator } from '../../../src/native.js';
import { openRendezvous, type Rendezvous } from '../../../src/transports/nccl/rendezvous/index.js';
import { openRuntime } from '../../../src/transports/nccl/runtime.js';
import { stagingFor } from '../../../src/transports/nccl/wire/memory.js';
import { planWire, type WirePlan } from '../../../src/transports/nccl/wire/plan.js';
import { openCheckpoint } from '../../../src/weights/checkpoint.js';
import { flattenPlan } from '../../../src/weights/flatten.js';
import { orderForLoading } from '../../../src/weights/order.js';
import { readRanges } from './memory.js';
import type { PeerEngine } from './peer.js';

/** The longest timer there is: PyNccl waits for ever. */
const FOR_EVER_MS = 2 ** 31 - 1;
const HOST = '127.0.0.1';

export interface Seat {
  readonly rank_offset: number;
  readonly world_size: number;
}

/** Weights that a trainer holds. */
export interface HeldWeights {
  /** What the engines are told of them. */
  readonly info: {
    readonly names: readonly string[];
    readonly dtype_names: readonly string[];
    readonly shapes: readonly (readonly number[])[];
  };
  readonly plan: WirePlan;
}

/** Reads a checkpoint into memory, as a trainer has its weights: what happens to the files later is nothing to it. */
export async function holdWeights(directory: string, packedBufferBytes: number): Promise<HeldWeights> {
  const { tensors } = await openCheckpoint(directory);
  const held = await readRanges(orderForLoading(tensors));
  const plan = planWire(held, { bufferBytes: packedBufferBytes, numBuffers: 2 });
  return {
    plan,
    info: {
      names: plan.tensors.map(({ name }) => name),
      dtype_names: plan.tensors.map(({ dtypeName }) => dtypeName),
      shapes: plan.tensors.map(({ shape }) => shape),
    },
  };
}

/** The trainer's end of the group. It lives until `die`, which is the end of the trainer's process. */
export class Rank0 {
  /** Where workers join. */
  readonly address: { readonly master_address: string; readonly master_port: number };
  readonly #communicator: NativeCommunicator;
  readonly #store: Rendezvous;
  readonly #uniqueId: Uint8Array;
  readonly #worldSize: number;

  private constructor(parts: {
    readonly communicator: NativeCommunicator;
    readonly store: Rendezvous;
    readonly uniqueId: Uint8Array;
    readonly worldSize: number;
  }) {
    this.#communicator = parts.communicator;
    this.#store = parts.store;
    this.#uniqueId = parts.uniqueId;
    this.#worldSize = parts.worldSize;
    this.address = { master_address: HOST, master_port: parts.store.port };
  }

  /** Listens: the engines can be told to join. */
  static async open(engines: readonly PeerEngine[], storeTimeoutMs: number): Promise<Rank0> {
    const runtime = await openRuntime({ emulate: true, cudaLibrary: null, ncclLibrary: null });
    const uniqueId = await runtime.uniqueId();
    const seats = seatsOf(engines);
    const expected = engines.flatMap(({ url, workers }, index) =>
      Array.from({ length: workers }, (_, worker) => ({
        rank: (seats[index] as Seat).rank_offset + worker,
        engine: url,
      })),
    );
    const store = await openRendezvous({
      host: HOST,
      port: 0,
      uniqueId,
      expected,
      timeoutMs: storeTimeoutMs,
    });
    const communicator = await runtime.communicator(0);
    return new Rank0({ communicator, store, uniqueId, worldSize: expected.length + 1 });
  }

  /** The store waits for every worker until its deadline; then come ncclCommInitRank and the warm-up all-reduce, without one. */
  async join(): Promise<void> {
    await this.#store.complete();
    await this.#communicator.init({
      uniqueId: this.#uniqueId,
      worldSize: this.#worldSize,
      rank: 0,
      timeoutMs: FOR_EVER_MS,
    });
    await this.#communicator.allReduce(Float32Array.of(0), FOR_EVER_MS);
  }

  /** Broadcasts everything and waits until the streams are drained. No deadline: a rank that is not there is waited for until the process ends. */
  async broadcast({ plan }: HeldWeights): Promise<void> {
    const staging = stagingFor(plan, { slotBytes: plan.largestFrame });
    const transfer = await this.#communicator.prepare(flattenPlan(plan.frames, [], staging), FOR_EVER_MS);
    try {
      await transfer.run(FOR_EVER_MS, null);
    } finally {
      await transfer.close().catch(() => undefined);
    }
  }

  /** The process ends: its connections close, and workers that wait in NCCL get an error. */
  async die(): Promise<void> {
    await this.#store.close().catch(() => undefined);
    await this.#communicator.abort().catch(() => undefined);
  }
}

/** Ranks in the order of the engines, after the trainer's 0. */
export function seatsOf(engines: readonly PeerEngine[]): Seat[] {
  const worldSize = engines.reduce((sum, { workers }) => sum + workers, 1);
  let next = 1;
  return engines.map(({ workers }) => {
    next += workers;
    return { rank_offset: next - workers, world_size: worldSize };
  });
}
