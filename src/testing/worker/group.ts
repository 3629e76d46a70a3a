/** A worker's seat in the sender's group: the rendezvous, the communicator, and the receive. */
import { WeightcastError } from '../../errors.js';
import type { NativeCommunicator, NativeRuntime } from '../../native.js';
import { unpickleUniqueId } from '../../transports/nccl/rendezvous/unique-id.js';
import { connectStore } from '../../transports/nccl/store/client.js';
import type { ReceiveFault } from '../faults.js';
import { type JoinOrder, type ReceiveOrder, WorkerError } from '../server/transfer-info.js';
import type { Parameters } from './parameters.js';
import { applyPatches, type Patch } from './patches.js';
import { type Broadcast, broadcastItemSize, broadcastsOf, requireViewable } from './receive-plan.js';
import { receiveStream } from './stream.js';

/** torch's default for a store. */
const STORE_TIMEOUT_MS = 300_000;
/** The longest timer: a real engine waits for ever in NCCL. */
export const NO_TIMEOUT_MS = 2 ** 31 - 1;

async function uniqueIdOf(order: JoinOrder, signal: AbortSignal): Promise<Uint8Array> {
  if (order.uniqueId !== null) {
    return new Uint8Array(Buffer.from(order.uniqueId, 'base64'));
  }
  const host = order.masterAddress ?? '';
  const port = order.masterPort ?? 0;
  const store = await connectStore({ host, port, timeoutMs: STORE_TIMEOUT_MS, signal });
  try {
    await store.join();
    return unpickleUniqueId(await store.get('broadcast_from/0/0'));
  } finally {
    await store.close();
  }
}

/** One communicator; only this worker's own rank differs between the workers of an engine. */
export class Group {
  readonly #communicator: NativeCommunicator;
  readonly #timeoutMs: number;
  /** Lets go of the signal that would abort the communicator. */
  readonly #forget: () => void;

  private constructor(communicator: NativeCommunicator, timeoutMs: number, forget: () => void) {
    this.#communicator = communicator;
    this.#timeoutMs = timeoutMs;
    this.#forget = forget;
  }

  /** StatelessProcessGroup and PyNcclCommunicator: id, init, and one all-reduce of one zero (contracts/vllm.md 3.4). */
  static async join(
    runtime: NativeRuntime,
    order: JoinOrder,
    seat: {
      readonly rank: number;
      readonly device: number;
      readonly timeoutMs: number;
      readonly signal: AbortSignal;
    },
  ): Promise<Group> {
    const { signal, timeoutMs } = seat;
    const uniqueId = await uniqueIdOf(order, signal);
    const communicator = await runtime.communicator(seat.device);
    const abort = (): void => {
      communicator.abort().catch(() => undefined);
    };
    const forget = (): void => signal.removeEventListener('abort', abort);
    signal.addEventListener('abort', abort, { once: true });
    try {
      signal.throwIfAborted();
      const rank = order.rankOffset + seat.rank;
      await communicator.init({ uniqueId, worldSize: order.worldSize, rank, timeoutMs });
      await communicator.allReduce(Float32Array.of(0), timeoutMs);
    } catch (error) {
      forget();
      await communicator.abort();
      throw error;
    }
    return new Group(communicator, timeoutMs, forget);
  }

  /** Receives and loads, broadcast by broadcast, as the engine does: what arrived before a failure stays loaded. */
  async receive(order: ReceiveOrder, parameters: Parameters, fault: ReceiveFault | null): Promise<void> {
    if (order.updates !== undefined) return this.#receivePatches(order, order.updates, { parameters, fault });
    const staging = new Staging(this.#communicator);
    let received = 0;
    try {
      for (const broadcast of broadcastsOf(order)) {
        await fault?.before(received);
        const buffer = await staging.atLeast(broadcast.byteLength);
        if (broadcast.byteLength > 0) {
          await this.#communicator.broadcast({
            buffer,
            offset: 0,
            byteLength: broadcast.byteLength,
            root: 0,
            timeoutMs: this.#timeoutMs,
          });
        }
        received += 1;
        await load(order, broadcast, parameters, (offset, byteLength) => buffer.read(offset, byteLength));
      }
      await fault?.after(received);
    } finally {
      await staging.free();
    }
  }

  /** Receives all of a delta, and only then looks at it and applies it, as vLLM 0.30 and later does: what was patched before a failure stays patched. */
  async #receivePatches(
    order: ReceiveOrder,
    updates: readonly number[],
    { parameters, fault }: { readonly parameters: Parameters; readonly fault: ReceiveFault | null },
  ): Promise<void> {
    const staging = new Staging(this.#communicator);
    let received = 0;
    const next = async (byteLength: number): Promise<Uint8Array> => {
      await fault?.before(received);
      const buffer = await staging.atLeast(byteLength);
      if (byteLength > 0) {
        const timeoutMs = this.#timeoutMs;
        await this.#communicator.broadcast({ buffer, offset: 0, byteLength, root: 0, timeoutMs });
      }
      received += 1;
      return byteLength === 0 ? new Uint8Array(0) : buffer.read(0, byteLength);
    };
    try {
      const patches: Patch[] = [];
      for (const [index, name] of order.names.entries()) {
        const dtypeName = order.dtypeNames[index] ?? '';
        const count = updates[index] ?? 0;
        const indices = await next(4 * count);
        const values = await next(broadcastItemSize(dtypeName) * count);
        patches.push({
          name,
          dtypeName,
          shape: order.shapes[index] ?? [],
          indices: new Int32Array(Uint8Array.from(indices).buffer),
          values,
        });
      }
      await fault?.after(received);
      await applyPatches(patches, parameters, fault);
    } finally {
      await staging.free();
    }
  }

  /** Receives and loads prime-rl's stream: what arrived before a failure stays loaded, and what is still to come is the next receive's. */
  async receiveStream(parameters: Parameters, fault: ReceiveFault | null): Promise<void> {
    const staging = new Staging(this.#communicator);
    let received = 0;
    try {
      await receiveStream(parameters, async (byteLength) => {
        await fault?.before(received);
        const buffer = await staging.atLeast(byteLength);
        if (byteLength > 0) {
          await this.#communicator.broadcast({
            buffer,
            offset: 0,
            byteLength,
            root: 0,
            timeoutMs: this.#timeoutMs,
          });
        }
        received += 1;
        return (offset, length) => buffer.read(offset, length);
      });
      await fault?.after(received);
    } finally {
      await staging.free();
    }
  }

  /** Gives the seat up. A communicator that is replaced is aborted, as in vLLM from 0.22 on. */
  async leave(): Promise<void> {
    this.#forget();
    await this.#communicator.abort();
  }
}

async function load(
  order: ReceiveOrder,
  { tensors }: Broadcast,
  parameters: Parameters,
  read: (offset: number, byteLength: number) => Promise<Uint8Array>,
): Promise<void> {
  if (order.packed) {
    tensors.forEach(requireViewable);
  }
  for (const { name, dtypeName, shape, offset } of tensors) {
    parameters.requireLoadable(name, dtypeName, shape);
    await parameters.store(name, (from, byteLength) => read(offset + from, byteLength));
  }
}

/** One device buffer that grows. */
class Staging {
  readonly #communicator: NativeCommunicator;
  #buffer: Awaited<ReturnType<NativeCommunicator['allocate']>> | null = null;

  constructor(communicator: NativeCommunicator) {
    this.#communicator = communicator;
  }

  async atLeast(byteLength: number): Promise<Awaited<ReturnType<NativeCommunicator['allocate']>>> {
    if (this.#buffer === null || this.#buffer.byteLength < byteLength) {
      await this.free();
      this.#buffer = await this.#communicator.allocate(Math.max(byteLength, 1));
    }
    return this.#buffer;
  }

  /** An aborted communicator has freed it already. */
  async free(): Promise<void> {
    const buffer = this.#buffer;
    this.#buffer = null;
    await buffer?.free().catch(() => undefined);
  }
}

/** What pynccl raises for a failed NCCL call; everything else keeps its own words. */
export function asWorkerError(error: unknown): WorkerError {
  if (error instanceof WorkerError) {
    return error;
  }
  const text = error instanceof Error ? error.message : String(error);
  const byNccl = error instanceof WeightcastError && error.code.startsWith('WC_NCCL');
  return new WorkerError(byNccl ? `NCCL error: ${text}` : text);
}
