/** The engine process: the HTTP server and the state of the engine; its workers are processes of their own. */
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { type DynamoCall, DynamoProcess, type DynamoStart } from './dynamo/process.js';
import type { ReferenceFaults } from './faults.js';
import { listen } from './listen.js';
import { Peer } from './peer.js';
import { type PrimeRlFaults, RouteFaults } from './prime-rl/faults.js';
import { type PrimeRlStart, primeRlDispatch } from './prime-rl/routes.js';
import { Core } from './server/core.js';
import { type Dispatch, dispatcher } from './server/dispatch.js';
import { profileOf, type VllmVersion } from './server/profile.js';
import { startWorkerProcesses, startWorkersHere } from './worker-processes.js';
import type { Workers } from './workers.js';

export interface EngineStart {
  readonly version: VllmVersion;
  readonly model: string;
  readonly workers: number;
  readonly workersInEngine: boolean;
  readonly host: string;
  readonly port: number;
  readonly apiKey: string | null;
  readonly devMode: boolean;
  readonly loraUpdating: boolean;
  readonly weightTransfer: boolean | 'sparse_nccl';
  readonly servedModelName: string;
  readonly maxModelLen: number;
  readonly tokenMs: number;
  readonly receiveTimeoutMs: number | null;
  /** Of the worker processes, over this process's own. */
  readonly environment: Readonly<Record<string, string>>;
  readonly libraries: { readonly cuda: string | null; readonly nccl: string | null };
  readonly faults: ReferenceFaults;
  /** It is a Dynamo worker: its HTTP server is a system port. */
  readonly dynamo: DynamoStart | null;
  /** It is a prime-rl server. */
  readonly primeRl: (PrimeRlStart & { readonly routeFaults: PrimeRlFaults }) | null;
}

export interface EngineStarted {
  readonly port: number;
  readonly workers: readonly number[];
  readonly vocabulary: number;
}

export type EngineCall =
  | { readonly kind: 'start'; readonly options: EngineStart }
  | { readonly kind: 'digests' }
  | { readonly kind: 'faults'; readonly faults: ReferenceFaults }
  | { readonly kind: 'route-faults'; readonly faults: PrimeRlFaults }
  | { readonly kind: 'state' }
  | { readonly kind: 'reset' }
  | { readonly kind: 'dynamo'; readonly call: DynamoCall }
  /** Answered after every exchange that was recorded before. */
  | { readonly kind: 'flush' };

/** Time for the last answers to leave before a dying engine exits. */
const DEATH_MS = 300;
/** Time for the workers to leave their group; those that do not end by themselves, as their channel closes. */
const CLOSE_MS = 1000;

let workers: Workers | null = null;
let core: Core | null = null;
let dynamo: DynamoProcess | null = null;
const routeFaults = new RouteFaults({});
let closing = false;

async function start(options: EngineStart): Promise<EngineStarted> {
  const { model, libraries, receiveTimeoutMs, faults, environment } = options;
  const setup = { model, size: options.workers, libraries, receiveTimeoutMs, faults };
  workers = options.workersInEngine
    ? await startWorkersHere(setup)
    : await startWorkerProcesses(setup, environment, () => {
        // A worker that dies takes the engine with it, as vLLM's executor does.
        if (core !== null && !closing) {
          core.dead = true;
          core.scheduler.abortAll();
          exitSoon();
        }
      });
  routeFaults.replace(options.primeRl?.routeFaults ?? {});
  core = new Core({ ...options, profile: profileOf(options.version) }, workers, exitSoon);
  dynamo = options.dynamo === null ? null : new DynamoProcess(core, options.dynamo);
  const { pids, vocabulary } = workers;
  if (options.dynamo?.hasSystemPort === false) return { port: 0, workers: pids, vocabulary };
  const server = await listen({
    host: options.host,
    port: options.port,
    dispatch: dispatchOf(core, options),
    record: (exchange) => parent.notify(exchange),
  });
  return { port: (server.address() as AddressInfo).port, workers: pids, vocabulary };
}

function dispatchOf(engine: Core, options: EngineStart): Dispatch {
  if (dynamo !== null) return dynamo.dispatch;
  if (options.primeRl === null) return dispatcher(engine, options);
  return routeFaults.wrap(primeRlDispatch(engine, options.primeRl, options.apiKey));
}

function exitSoon(): void {
  setTimeout(() => process.exit(1), DEATH_MS);
}

async function serve(call: EngineCall): Promise<unknown> {
  switch (call.kind) {
    case 'start':
      return start(call.options);
    case 'digests':
      return workers?.checksums();
    case 'faults':
      return workers?.setFaults(call.faults);
    case 'route-faults':
      return routeFaults.replace(call.faults);
    case 'state':
      return core?.state();
    case 'reset':
      // The workers first: what waits in one of them holds the core.
      await workers?.reset();
      dynamo?.reset();
      routeFaults.replace({});
      return core?.reset();
    case 'dynamo':
      return dynamo?.call(call.call);
    case 'flush':
      return null;
  }
}

const parent = new Peer<EngineCall>(process, {
  call: serve,
  lost: () => {
    closing = true;
    void Promise.race([workers?.close(), sleep(CLOSE_MS)]).then(() => process.exit(0));
  },
});
