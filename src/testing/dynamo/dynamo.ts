/** A reference Dynamo: real worker processes with system ports, one frontend, one RL listener. */
import { randomBytes } from 'node:crypto';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type ReferenceEngineOptions, startEngineProcess } from '../engine.js';
import { listen } from '../listen.js';
import type { Dispatch } from '../server/dispatch.js';
import { discovery } from './discovery.js';
import type { DynamoFaults } from './faults.js';
import { frontend } from './frontend.js';
import type { WorkerExtension } from './rpc.js';
import { ReferenceDynamoWorker } from './worker.js';

/** One worker beside the defaults of all. */
export interface DynamoWorkerOptions
  extends Partial<Omit<ReferenceEngineOptions, 'host' | 'version' | 'servedModelName'>> {
  /** Faults of its routes; `faults` are those of its engine. */
  readonly routeFaults?: DynamoFaults;
  /** Another process has its system port: it runs, and is listed, without. Default false. */
  readonly systemPortTaken?: boolean;
  /** Default: random, beyond 2^53. */
  readonly instanceId?: bigint;
}

export interface ReferenceDynamoOptions extends Omit<ReferenceEngineOptions, 'version'> {
  /** How many, or each with its own options. Default 1. */
  readonly engines?: number | readonly DynamoWorkerOptions[];
  /** Default 'dynamo'. */
  readonly namespace?: string;
  /** DYN_RL_INIT_WEIGHTS_TIMEOUT_S, in milliseconds; default 30,000. */
  readonly initTimeoutMs?: number;
  /** DYN_LORA_ENABLED; default true. */
  readonly lora?: boolean;
  /** DYN_LORA_HOTSWAP_ENABLED; default false. */
  readonly loraHotSwap?: boolean;
  /** `--worker-extension-cls`: 'prime-rl' has the methods by which its NCCL broadcast is received. Default: vLLM's own alone. */
  readonly workerExtension?: WorkerExtension;
  /** Whether the frontend asks the worker that `nvext.backend_instance_id` names; default true. */
  readonly routesByInstance?: boolean;
  /** Milliseconds that discovery waits for a worker; default 3,000. */
  readonly discoveryTimeoutMs?: number;
}

/** The vLLM of these that is nearest to the 0.31 inside Dynamo 1.6.1. */
const VLLM = '0.30.0';
const COMPONENT = 'backend';

/** A running deployment; everything ends with `close()`. */
export class ReferenceDynamo {
  readonly workers: readonly ReferenceDynamoWorker[];
  readonly #start: (own: DynamoWorkerOptions) => Promise<ReferenceDynamoWorker>;
  readonly #started: ReferenceDynamoWorker[];
  /** The frontend: /v1/models and /v1/chat/completions. */
  readonly url: string;
  /** The RL listener: /v1/rl/workers. */
  readonly discoveryUrl: string;
  readonly #servers: readonly Server[];
  readonly #listed: Set<ReferenceDynamoWorker>;

  /** @internal */
  constructor(
    workers: readonly ReferenceDynamoWorker[],
    parts: {
      readonly servers: readonly [Server, Server];
      readonly listed: Set<ReferenceDynamoWorker>;
      readonly start: (own: DynamoWorkerOptions) => Promise<ReferenceDynamoWorker>;
    },
  ) {
    this.workers = workers;
    this.#started = [...workers];
    this.#start = parts.start;
    this.#servers = parts.servers;
    this.#listed = parts.listed;
    [this.url, this.discoveryUrl] = parts.servers.map(urlOf) as [string, string];
  }

  /** One more, which discovery lists once it serves; it is not among `workers`. @throws WeightcastError WC_REFERENCE_ENGINE */
  async add(own: DynamoWorkerOptions = {}): Promise<ReferenceDynamoWorker> {
    const worker = await this.#start(own);
    this.#started.push(worker);
    this.#listed.add(worker);
    return worker;
  }

  /** The lease of a worker that ended is over: the frontend and discovery forget it. */
  expire(worker: ReferenceDynamoWorker): void {
    this.#listed.delete(worker);
  }

  /** Safe to call twice. */
  async close(): Promise<void> {
    for (const server of this.#servers) {
      server.close();
      server.closeAllConnections();
    }
    await Promise.all(this.#started.map(({ engine }) => engine.close()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

const urlOf = (server: Server): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

/**
 * Starts workers of the Python dialect, a frontend and its RL listener, all on loopback.
 *
 * @throws WeightcastError WC_REFERENCE_ENGINE when a worker does not start; then none is left
 * @example
 * ```ts
 * await using dynamo = await startReferenceDynamo({ model: '/models/step_0', engines: 2 });
 * await pushWeights('/models/step_1', {
 *   engines: dynamo.workers.map(({ systemUrl }) => `dynamo=${systemUrl},inference=${dynamo.url}`),
 *   emulate: true,
 * });
 * ```
 */
export async function startReferenceDynamo(options: ReferenceDynamoOptions): Promise<ReferenceDynamo> {
  const { engines = 1, namespace = 'dynamo', servedModelName = 'reference' } = options;
  const wanted = typeof engines === 'number' ? Array.from({ length: engines }, () => ({})) : engines;
  const started = await Promise.allSettled(wanted.map((each) => startWorker(options, each)));
  const workers = started.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
  const listed = new Set(workers);
  try {
    for (const each of started) if (each.status === 'rejected') throw each.reason;
    const place = { namespace, component: COMPONENT, model: servedModelName, workers: () => [...listed] };
    const serve = (dispatch: Dispatch) =>
      listen({ host: '127.0.0.1', port: 0, dispatch, record: () => undefined });
    const servers = await Promise.all([
      serve(
        frontend({
          ...place,
          vocabulary: workers[0]?.engine.vocabulary ?? 1,
          routesByInstance: options.routesByInstance ?? true,
        }),
      ),
      serve(discovery({ ...place, requestTimeoutMs: options.discoveryTimeoutMs ?? 3_000 })),
    ]);
    return new ReferenceDynamo(workers, { servers, listed, start: (own) => startWorker(options, own) });
  } catch (error) {
    await Promise.all(workers.map(({ engine }) => engine.close()));
    throw error;
  }
}

async function startWorker(
  options: ReferenceDynamoOptions,
  own: DynamoWorkerOptions,
): Promise<ReferenceDynamoWorker> {
  const { routeFaults = {}, systemPortTaken = false, instanceId = randomId(), ...engine } = own;
  const hasSystemPort = !systemPortTaken;
  const process = await startEngineProcess(
    { ...options, ...engine, version: VLLM, host: '127.0.0.1' },
    {
      dynamo: {
        instanceId,
        namespace: options.namespace ?? 'dynamo',
        component: COMPONENT,
        ready: true,
        hasSystemPort,
        initTimeoutMs: options.initTimeoutMs ?? 30_000,
        lora: options.lora ?? true,
        loraHotSwap: options.loraHotSwap ?? false,
        workerExtension: options.workerExtension,
        faults: routeFaults,
      },
    },
  );
  return new ReferenceDynamoWorker(process, { instanceId, hasSystemPort });
}

/** A u64 that no double holds. */
function randomId(): bigint {
  return randomBytes(8).readBigUInt64BE() | (1n << 60n) | 1n;
}
