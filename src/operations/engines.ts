/** Engines without a fleet: named by whoever calls, connected for one operation. */
import type { EngineAdmin, Exchange } from '../engines/admin.js';
import { createHttpClient, type EngineTarget, type HttpClient } from '../engines/http.js';
import { connectEngine, type EngineAccess, parseEngine } from '../engines/registry.js';
import { asWeightcastError, WeightcastError } from '../errors.js';
import { onAll } from '../fleet/engine.js';

/** 'http://host:8000', 'dynamo=http://host:9090', or an object. */
export type EngineName = string | ({ readonly url: string } & EngineAccess);

/** Whose routes are used: the name of a backend, or what gives the operations of an engine. */
export type AdminApi = string | ((target: EngineTarget) => EngineAdmin | Promise<EngineAdmin>);

/** prime-rl's servers, which are vLLM with routes of their own: what its client calls its vLLM backend (VLLMAdminAPI), and its default. */
const DEFAULT_ADMIN = 'prime-rl';

export interface OperationOptions {
  /** For engines that are named without a backend. Default 'prime-rl'. */
  readonly admin?: AdminApi;
  readonly apiKey?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
  /** Total milliseconds of each call; default: the backend's own patience. */
  readonly timeoutMs?: number;
  /** Told what a person would want to read in a log. */
  readonly onLog?: (line: string) => void;
}

export interface ConnectedEngine {
  readonly id: string;
  readonly target: EngineTarget;
  readonly admin: EngineAdmin;
  call<T>(exchange: Exchange<T>, limits?: CallLimits): Promise<T>;
}

/** What replaces the caller's options for one call. */
export interface CallLimits {
  /** null: nothing interrupts it. */
  readonly signal?: AbortSignal | null;
  /** Total milliseconds. */
  readonly timeoutMs?: number;
}

/** @throws WeightcastError WC_CONFIG_INVALID */
export function targetsOf(engines: readonly EngineName[], options: OperationOptions): EngineTarget[] {
  const { admin = DEFAULT_ADMIN, apiKey, headers } = options;
  const targets = engines.map((engine) => {
    const { url, ...own } = typeof engine === 'string' ? { url: engine } : engine;
    return parseEngine(url, {
      apiKey,
      ...(typeof admin === 'string' ? { backend: admin } : {}),
      ...own,
      headers: { ...headers, ...own.headers },
    });
  });
  const twice = targets.find(({ id }, index) => targets.findIndex((other) => other.id === id) !== index);
  if (twice !== undefined)
    throw new WeightcastError('WC_CONFIG_INVALID', `engine ${twice.id} is named twice`);
  if (targets.length === 0) throw new WeightcastError('WC_CONFIG_INVALID', 'no engine is named');
  return targets;
}

/**
 * Connects to all of them for as long as `use` runs.
 *
 * @throws WeightcastError WC_CONFIG_INVALID, and why the first of them could not be connected: nothing was asked of any then
 */
export async function withEngines<T>(
  engines: readonly EngineName[],
  options: OperationOptions,
  use: (connected: readonly ConnectedEngine[]) => Promise<T>,
  /** What a server that can't say how it receives is taken to receive by. */
  transport?: 'nccl' | 'filesystem',
): Promise<T> {
  const targets = targetsOf(engines, options);
  await using http = createHttpClient();
  const { done, failed } = await onAll(targets, (target) => connected(http, target, options, transport));
  throwFirst(failed, [...done.keys()]);
  return await use(targets.map(({ id }) => done.get(id) as ConnectedEngine));
}

async function connected(
  http: HttpClient,
  target: EngineTarget,
  { admin, signal, timeoutMs }: OperationOptions,
  transport: 'nccl' | 'filesystem' | undefined,
): Promise<ConnectedEngine> {
  return {
    id: target.id,
    target,
    admin:
      typeof admin === 'function'
        ? await admin(target)
        : await connectEngine(http, target, { signal, transport }),
    call: (exchange, own = {}) =>
      http.exchange(target, exchange, {
        signal: (own.signal === undefined ? signal : own.signal) ?? undefined,
        timeoutMs: own.timeoutMs ?? timeoutMs,
      }),
  };
}

/** Runs one thing on all at once. @throws WeightcastError of the first that failed; `details.done` and `details.failed` name the others */
export async function onEvery<E extends { readonly id: string }, T>(
  engines: readonly E[],
  run: (engine: E) => Promise<T>,
): Promise<ReadonlyMap<string, T>> {
  const { done, failed } = await onAll(engines, run);
  throwFirst(failed, [...done.keys()]);
  return done;
}

/** @throws WeightcastError of the first of `failed`, where there is one */
export function throwFirst(failed: ReadonlyMap<string, unknown>, done: readonly string[]): void {
  const [first] = failed;
  if (first === undefined) return;
  const [engine, error] = first;
  const known = asWeightcastError(error, 'WC_ENGINE_UNREACHABLE', { engine });
  throw new WeightcastError(known.code, `${engine}: ${known.message}`, {
    engine,
    phase: known.phase ?? undefined,
    remedy: known.remedy,
    cause: known,
    details: { ...known.details, done, failed: [...failed.keys()] },
  });
}
