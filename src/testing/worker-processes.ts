/** The workers of an engine, as processes. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { EngineStart } from './engine-main.js';
import { spawnProgram } from './entry.js';
import type { ReferenceFaults } from './faults.js';
import { Peer } from './peer.js';
import type { WorkerGroup } from './server/core.js';
import type { JoinOrder, ReceiveOrder } from './server/transfer-info.js';
import { combine } from './worker/fingerprint.js';
import type { WorkerCall, WorkerStart } from './worker-main.js';

export class WorkerProcesses implements WorkerGroup {
  readonly #children: readonly ChildProcess[];
  readonly #peers: readonly Peer[];
  readonly vocabulary: number;

  private constructor(children: readonly ChildProcess[], peers: readonly Peer[], vocabulary: number) {
    this.#children = children;
    this.#peers = peers;
    this.vocabulary = vocabulary;
  }

  /** Starts and loads all workers; `onLost` when one of them ends. */
  static async start(
    {
      environment,
      ...options
    }: Omit<WorkerStart, 'rank'> & { readonly environment: EngineStart['environment'] },
    onLost: (pid: number | undefined) => void,
  ): Promise<WorkerProcesses> {
    const children = Array.from({ length: options.size }, () =>
      spawnProgram('worker-main', 'inherit', environment),
    );
    const peers = children.map((child) => new Peer(child, { lost: () => onLost(child.pid) }));
    try {
      const started = await Promise.all(
        peers.map((peer, rank) =>
          peer.call<{ vocabulary: number }>({ kind: 'start', options: { ...options, rank } }),
        ),
      );
      return new WorkerProcesses(children, peers, started[0]?.vocabulary ?? 1);
    } catch (error) {
      for (const child of children) {
        child.kill('SIGKILL');
      }
      throw error;
    }
  }

  get size(): number {
    return this.#peers.length;
  }

  get pids(): readonly number[] {
    return this.#children.flatMap((child) => child.pid ?? []);
  }

  async load(directory: string): Promise<void> {
    await this.#all({ kind: 'load', directory });
  }

  async join(order: JoinOrder): Promise<void> {
    await this.#all({ kind: 'join', order });
  }

  async receive(orders: readonly ReceiveOrder[]): Promise<void> {
    await Promise.all(
      this.#peers.map((peer, rank) => peer.call({ kind: 'receive', order: orders[rank] } as WorkerCall)),
    );
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

  /** Closes the channels and waits until every worker has ended. */
  async close(): Promise<void> {
    await Promise.all(
      this.#children.map(async (child) => {
        if (child.exitCode === null && child.signalCode === null) {
          const exited = once(child, 'exit');
          if (child.connected) {
            child.disconnect();
          }
          await exited;
        }
      }),
    );
  }

  /** The first failure is told at once; a worker that still waits keeps its later calls waiting. */
  #all<T>(call: WorkerCall): Promise<T[]> {
    return Promise.all(this.#peers.map((peer) => peer.call<T>(call)));
  }
}
