/** Reference engines: real HTTP servers over real worker processes that behave like the vLLM version that they are told to be. */
import type { ChildProcess } from 'node:child_process';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { WeightcastError } from '../errors.js';
import { emulatorLibraries } from '../native.js';
import type { DynamoCall } from './dynamo/process.js';
import type { EngineStart, EngineStarted } from './engine-main.js';
import { spawnProgram } from './entry.js';
import type { ReferenceFaults } from './faults.js';
import type { RecordedExchange } from './listen.js';
import { Peer } from './peer.js';
import type { PrimeRlFaults } from './prime-rl/faults.js';
import { whileRunning } from './processes.js';
import type { EngineState } from './server/core.js';
import { isVllmVersion, profileOf, VLLM_VERSIONS, type VllmVersion } from './server/profile.js';

export interface ReferenceEngineOptions {
  /** The vLLM version to be; default 0.32.0. */
  readonly version?: VllmVersion;
  /** Checkpoint directory that is loaded at start. */
  readonly model: string;
  /** Tensor-parallel size: worker processes. Default 1. */
  readonly workers?: number;
  /**
   * Runs the workers in the engine's process: engines start in half the time, and a worker that dies takes the engine with it at once. Default false:
   * processes of their own, as vLLM has them.
   */
  readonly workersInEngine?: boolean;
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** Default 0: a free port. */
  readonly port?: number;
  /** Guards what `--api-key` guards in that version: never the admin routes. */
  readonly apiKey?: string;
  /** VLLM_SERVER_DEV_MODE; default true. False hides every admin route. */
  readonly devMode?: boolean;
  /** VLLM_ALLOW_RUNTIME_LORA_UPDATING; default true. */
  readonly loraUpdating?: boolean;
  /** `--weight-transfer-config`; default true: the backend 'nccl'. 'sparse_nccl' (0.30 and later) receives deltas only. */
  readonly weightTransfer?: boolean | 'sparse_nccl';
  /** Default 'reference'. */
  readonly servedModelName?: string;
  /** Tokens of prompt and answer together; default 4096. */
  readonly maxModelLen?: number;
  /** Milliseconds that a generated token takes; default 1. */
  readonly tokenMs?: number;
  /** Milliseconds that a worker waits in NCCL; default null: for ever, as the real engine does. */
  readonly receiveTimeoutMs?: number | null;
  /** Environment of the worker processes, over this process's own: the emulator's fault switches, NCCL settings. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Default: the emulator that the build leaves beside the addon. null searches as the addon does. */
  readonly libraries?: { readonly cuda: string | null; readonly nccl: string | null };
  readonly faults?: ReferenceFaults;
  /** Milliseconds until it must serve; default 60 000. */
  readonly startTimeoutMs?: number;
}

/** How an engine process ended. */
export interface EngineExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

const CLOSE_TIMEOUT_MS = 3000;
const KEPT_STDERR = 8192;
const RECORDED_BYTES = 64 << 20;

/**
 * A running reference engine. Its processes end with `close()`, with `kill()`, when the engine dies as vLLM would, and when the
 * process that started it ends.
 */
export class ReferenceEngine {
  readonly version: VllmVersion;
  /** 'http://127.0.0.1:41234' */
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  /** Process ids of the workers, by tensor-parallel rank; empty when they run in the engine's process. */
  readonly workers: readonly number[];
  /** @internal token ids that its model knows */
  readonly vocabulary: number;
  /** Resolves when the engine process has ended, however it did. */
  readonly exited: Promise<EngineExit>;
  readonly #record: ExchangeRecord;
  readonly #running: readonly { readonly pid: number; readonly runs: () => boolean }[];
  readonly #child: ChildProcess;
  readonly #peer: Peer<never, RecordedExchange>;

  /** @internal */
  constructor(parts: {
    readonly version: VllmVersion;
    readonly host: string;
    readonly started: EngineStarted;
    readonly child: ChildProcess;
    readonly peer: Peer<never, RecordedExchange>;
    readonly record: ExchangeRecord;
    readonly exited: Promise<EngineExit>;
  }) {
    this.version = parts.version;
    this.port = parts.started.port;
    this.url = `http://${parts.host.includes(':') ? `[${parts.host}]` : parts.host}:${this.port}`;
    this.pid = parts.child.pid ?? 0;
    this.workers = parts.started.workers;
    this.#running = parts.started.workers.map((pid) => ({ pid, runs: whileRunning(pid) }));
    this.vocabulary = parts.started.vocabulary;
    this.#record = parts.record;
    this.exited = parts.exited;
    this.#child = parts.child;
    this.#peer = parts.peer;
  }

  /** The latest 64 MiB of requests and answers, as they were answered; {@link exchanges} also waits for those on their way. */
  get record(): readonly RecordedExchange[] {
    return this.#record.exchanges;
  }

  /** The record, with every exchange that was answered before this call. */
  async exchanges(): Promise<readonly RecordedExchange[]> {
    // An engine that has died has nothing more on its way.
    await this.#peer.call({ kind: 'flush' }).catch(() => null);
    return [...this.record];
  }

  /** SHA-256 (hex) of every parameter as the worker holds it, a map a worker. Waits for a receive that is going on. */
  digests(): Promise<readonly ReadonlyMap<string, string>[]> {
    return this.#peer.call({ kind: 'digests' });
  }

  /** Replaces the faults, from the next receive on. */
  async setFaults(faults: ReferenceFaults): Promise<void> {
    await this.#peer.call({ kind: 'faults', faults });
  }

  /** Replaces what goes wrong at the routes of a prime-rl server. */
  async setRouteFaults(faults: PrimeRlFaults): Promise<void> {
    await this.#peer.call({ kind: 'route-faults', faults });
  }

  /** What it does at this moment, asked behind its HTTP server: also of an engine that is stuck. */
  state(): Promise<EngineState> {
    return this.#peer.call({ kind: 'state' });
  }

  /**
   * Puts a living engine back to what it was when it started: its first weights, not paused, in no group, no faults, an empty record. What waits in its
   * workers is ended.
   */
  async reset(): Promise<void> {
    await this.#peer.call({ kind: 'reset' });
    this.#record.clear();
  }

  /** @internal what a reference Dynamo asks of its worker */
  callDynamo<T>(call: DynamoCall): Promise<T> {
    return this.#peer.call({ kind: 'dynamo', call });
  }

  /** Ends the engine and its workers. Safe to call twice, and on an engine that has died. */
  async close(): Promise<void> {
    if (this.#child.connected) {
      this.#child.disconnect();
    }
    await this.#ended();
  }

  /** Kills the engine process as `kill -9` does; its workers end with it. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#ended();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #ended(): Promise<void> {
    const deadline = Date.now() + CLOSE_TIMEOUT_MS;
    await Promise.race([this.exited, sleep(CLOSE_TIMEOUT_MS, undefined, { ref: false })]);
    this.#child.kill('SIGKILL');
    while (this.#running.some(({ runs }) => runs()) && Date.now() < deadline) {
      await sleep(10);
    }
    for (const { pid } of this.#running.filter(({ runs }) => runs())) {
      process.kill(pid, 'SIGKILL');
    }
    await this.exited;
  }
}

/** Exchanges, up to a number of bytes; the oldest go first. */
class ExchangeRecord {
  readonly exchanges: RecordedExchange[] = [];
  readonly #sizes: number[] = [];
  #bytes = 0;

  add(exchange: RecordedExchange): void {
    const size = JSON.stringify(exchange).length;
    this.exchanges.push(exchange);
    this.#sizes.push(size);
    this.#bytes += size;
    while (this.#bytes > RECORDED_BYTES && this.exchanges.length > 1) {
      this.exchanges.shift();
      this.#bytes -= this.#sizes.shift() ?? 0;
    }
  }

  clear(): void {
    this.exchanges.length = 0;
    this.#sizes.length = 0;
    this.#bytes = 0;
  }
}

/**
 * Starts one reference engine: an HTTP server of the given vLLM version over worker processes that receive by NCCL.
 *
 * @throws WeightcastError WC_CONFIG_INVALID for an unknown version, WC_REFERENCE_ENGINE when it does not start
 * @example
 * ```ts
 * await using engine = await startReferenceEngine({ version: '0.32.0', model: '/models/step_0', workers: 2 });
 * await fetch(`${engine.url}/pause?mode=keep&clear_cache=true`, { method: 'POST' });
 * console.log(await engine.digests());
 * ```
 */
export function startReferenceEngine(options: ReferenceEngineOptions): Promise<ReferenceEngine> {
  return startEngineProcess(options, {});
}

/** @internal a reference engine, or the server of another backend over the same processes */
export async function startEngineProcess(
  options: ReferenceEngineOptions,
  guise: Partial<Pick<EngineStart, 'dynamo' | 'primeRl'>>,
): Promise<ReferenceEngine> {
  const start: EngineStart = { ...withDefaults(options), dynamo: null, primeRl: null, ...guise };
  const child = spawnProgram('engine-main', 'pipe', start.workersInEngine ? start.environment : {});
  let stderr = '';
  child.stderr?.on('data', (text: Buffer) => {
    stderr = (stderr + text.toString()).slice(-KEPT_STDERR);
  });
  const exited = new Promise<EngineExit>((done) => {
    child.once('exit', (code, signal) => done({ code, signal }));
  });
  const record = new ExchangeRecord();
  const peer = new Peer<never, RecordedExchange>(child, {
    notice: (exchange) => record.add(exchange),
    lost: () => undefined,
  });
  const timeoutMs = options.startTimeoutMs ?? 60_000;
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
  try {
    const started = await peer.call<EngineStarted>({ kind: 'start', options: start });
    return new ReferenceEngine({
      version: start.version,
      host: start.host,
      started,
      child,
      peer,
      record,
      exited,
    });
  } catch (cause) {
    child.kill('SIGKILL');
    await exited;
    throw new WeightcastError(
      'WC_REFERENCE_ENGINE',
      `a reference engine did not start: ${String((cause as Error).message)}${stderr === '' ? '' : `\n${stderr}`}`,
      { cause },
    );
  } finally {
    clearTimeout(timer);
  }
}

function withDefaults(options: ReferenceEngineOptions): Omit<EngineStart, 'dynamo' | 'primeRl'> {
  // Called from JavaScript too, where nothing has checked it.
  if (typeof (options as Partial<ReferenceEngineOptions> | undefined)?.model !== 'string') {
    throw new WeightcastError(
      'WC_CONFIG_INVALID',
      'model: name the directory of the checkpoint that it serves',
      {
        remedy:
          'writeTinyModel(directory) makes a small one; then startReferenceEngine({ model: directory }).',
      },
    );
  }
  const version = options.version ?? '0.32.0';
  if (!isVllmVersion(version)) {
    throw new WeightcastError(
      'WC_CONFIG_INVALID',
      `no vLLM ${String(version)} was recorded; there are ${VLLM_VERSIONS.join(', ')}`,
    );
  }
  if (options.weightTransfer === 'sparse_nccl' && !profileOf(version).sparse) {
    throw new WeightcastError(
      'WC_CONFIG_INVALID',
      `a reference engine receives deltas as vLLM 0.30 and later does, not as ${version}`,
    );
  }
  const workers = options.workers ?? 1;
  if (!Number.isInteger(workers) || workers < 1) {
    throw new WeightcastError('WC_CONFIG_INVALID', `workers must be a positive integer, not ${workers}`);
  }
  return {
    version,
    model: resolve(options.model),
    workers,
    workersInEngine: options.workersInEngine ?? false,
    host: options.host ?? '127.0.0.1',
    port: options.port ?? 0,
    apiKey: options.apiKey ?? null,
    devMode: options.devMode ?? true,
    loraUpdating: options.loraUpdating ?? true,
    weightTransfer: options.weightTransfer ?? true,
    servedModelName: options.servedModelName ?? 'reference',
    maxModelLen: options.maxModelLen ?? 4096,
    tokenMs: options.tokenMs ?? 1,
    receiveTimeoutMs: options.receiveTimeoutMs ?? null,
    environment: options.environment ?? {},
    libraries: options.libraries ?? emulatorLibraries,
    faults: options.faults ?? {},
  };
}
