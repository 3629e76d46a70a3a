/** A worker of a reference Dynamo, as the process that started it holds it. */
import type { ReferenceEngine } from '../engine.js';
import type { DynamoFaults } from './faults.js';
import type { GenerateAnswer, GenerateOrder } from './generate.js';
import type { DiscoveredRoutes, DynamoCall, RlState } from './process.js';

/** One running worker. It ends as its {@link ReferenceEngine} does. */
export class ReferenceDynamoWorker {
  /** A u64, as discovery lists it. */
  readonly instanceId: bigint;
  /** 'http://127.0.0.1:9090'; null when another process has its port. */
  readonly systemUrl: string | null;
  /** The vLLM inside: its bytes, its record, its end. */
  readonly engine: ReferenceEngine;
  #ended = false;

  /** @internal */
  constructor(
    engine: ReferenceEngine,
    parts: { readonly instanceId: bigint; readonly hasSystemPort: boolean },
  ) {
    this.engine = engine;
    this.instanceId = parts.instanceId;
    this.systemUrl = parts.hasSystemPort ? engine.url : null;
    void engine.exited.then(() => {
      this.#ended = true;
    });
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** What the worker believes of itself, whatever its engine does. */
  state(): Promise<RlState> {
    return this.#call({ kind: 'state' });
  }

  /** Replaces the faults of its routes, from the next call on; those of its engine are the engine's. */
  async setFaults(faults: DynamoFaults): Promise<void> {
    await this.#call({ kind: 'faults', faults });
  }

  /** @internal */
  discovered(): Promise<DiscoveredRoutes> {
    return this.#call({ kind: 'routes' });
  }

  /** @internal */
  generate(order: GenerateOrder): Promise<GenerateAnswer> {
    return this.#call({ kind: 'generate', order });
  }

  /** @internal */
  cancel(id: string): void {
    this.#call({ kind: 'cancel', id }).catch(() => undefined);
  }

  #call<T>(call: DynamoCall): Promise<T> {
    return this.engine.callDynamo<T>(call);
  }
}
