/** The workers of an engine, all together, wherever they run. */
import type { ReferenceFaults } from './faults.js';
import type { WorkerGroup } from './server/core.js';
import type { JoinOrder, ReceiveOrder } from './server/transfer-info.js';
import { combine } from './worker/fingerprint.js';
import type { WorkerCall } from './worker/worker.js';

/** Where a worker is called. */
export interface WorkerPort {
  call<T>(call: WorkerCall): Promise<T>;
}

export interface WorkersParts {
  /** By tensor-parallel rank. */
  readonly ports: readonly WorkerPort[];
  /** Processes of their own; none when they run in the engine's. */
  readonly pids: readonly number[];
  readonly vocabulary: number;
  /** Resolves when they have ended. */
  close(): Promise<void>;
}

export class Workers implements WorkerGroup {
  readonly #parts: WorkersParts;

  constructor(parts: WorkersParts) {
    this.#parts = parts;
  }

  get vocabulary(): number {
    return this.#parts.vocabulary;
  }

  get size(): number {
    return this.#parts.ports.length;
  }

  get pids(): readonly number[] {
    return this.#parts.pids;
  }

  async load(directory: string): Promise<void> {
    await this.#all({ kind: 'load', directory });
  }

  async join(order: JoinOrder): Promise<void> {
    await this.#all({ kind: 'join', order });
  }

  async receive(orders: readonly ReceiveOrder[]): Promise<void> {
    await Promise.all(
      this.#parts.ports.map((port, rank) =>
        port.call({ kind: 'receive', order: orders[rank] as ReceiveOrder }),
      ),
    );
  }

  async receiveStream(): Promise<void> {
    await this.#all({ kind: 'receive-stream' });
  }

  async leave(): Promise<void> {
    await this.#all({ kind: 'leave' });
  }

  checksums(): Promise<readonly ReadonlyMap<string, string>[]> {
    return this.#all<ReadonlyMap<string, string>>({ kind: 'checksums' });
  }

  async fingerprint(): Promise<string> {
    return combine(await this.#all<readonly [number, number]>({ kind: 'fingerprint' }));
  }

  async reset(): Promise<void> {
    await this.#all({ kind: 'reset' });
  }

  async setFaults(faults: ReferenceFaults): Promise<void> {
    await this.#all({ kind: 'faults', faults });
  }

  close(): Promise<void> {
    return this.#parts.close();
  }

  /** The first failure is told at once; a worker that still waits keeps its later calls waiting. */
  #all<T>(call: WorkerCall): Promise<T[]> {
    return Promise.all(this.#parts.ports.map((port) => port.call<T>(call)));
  }
}
