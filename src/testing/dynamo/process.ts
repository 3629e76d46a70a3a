/** The Dynamo side of an engine process: its RL handlers and system port, and what the frontend asks of it. */
import type { Core } from '../server/core.js';
import type { Dispatch } from '../server/dispatch.js';
import { type DynamoFaults, RouteFaults } from './faults.js';
import { type GenerateOrder, RequestPlane } from './generate.js';
import { RlWorker, type RlWorkerOptions } from './rl-worker.js';
import { systemPort } from './system-port.js';

export interface DynamoStart extends RlWorkerOptions {
  readonly instanceId: bigint;
  readonly namespace: string;
  readonly component: string;
  readonly ready: boolean;
  /** False: another process has its port, so it runs without. */
  readonly hasSystemPort: boolean;
  readonly faults: DynamoFaults;
}

export type DynamoCall =
  | { readonly kind: 'routes' }
  | { readonly kind: 'generate'; readonly order: GenerateOrder }
  | { readonly kind: 'cancel'; readonly id: string }
  | { readonly kind: 'faults'; readonly faults: DynamoFaults }
  | { readonly kind: 'state' };

/** What only the worker itself knows. */
export interface RlState {
  /** The flag of pause_generation: sleep and wake_up leave it as it is. */
  readonly paused: boolean;
  readonly asleep: boolean;
  /** null: nobody declared one. */
  readonly version: unknown;
}

/** What discovery learns over the request plane. */
export interface DiscoveredRoutes {
  readonly routes: readonly string[];
  readonly worldSize: number;
  readonly asleep: boolean;
  readonly loras: readonly string[];
}

export class DynamoProcess {
  readonly dispatch: Dispatch;
  readonly #core: Core;
  readonly #worker: RlWorker;
  readonly #plane: RequestPlane;
  readonly #faults: RouteFaults;

  constructor(core: Core, start: DynamoStart) {
    this.#core = core;
    this.#faults = new RouteFaults(start.faults);
    this.#worker = new RlWorker(core, start, () => process.exit(1));
    this.#plane = new RequestPlane(core, this.#worker);
    this.dispatch = systemPort({ ...start, core, worker: this.#worker, faults: this.#faults });
  }

  async call(call: DynamoCall): Promise<unknown> {
    switch (call.kind) {
      case 'routes':
        return this.#discovered();
      case 'generate':
        return this.#plane.generate(call.order);
      case 'cancel':
        return this.#plane.cancel(call.id);
      case 'faults':
        return this.#faults.replace(call.faults);
      case 'state': {
        const { paused, asleep, version } = this.#worker;
        return { paused, asleep, version } satisfies RlState;
      }
    }
  }

  reset(): void {
    this.#faults.replace({});
    this.#worker.reset();
  }

  #discovered(): DiscoveredRoutes {
    return {
      routes: [...this.#worker.handlers().keys()].sort(),
      worldSize: this.#core.workers.size,
      asleep: this.#worker.asleep,
      loras: [...this.#core.loras.keys()],
    };
  }
}
