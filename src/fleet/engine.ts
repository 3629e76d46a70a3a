/** One engine of a fleet: its admin operations and a way to run them. */
import type { EngineAdmin, EngineLife, Exchange, ModelCard, SleepState } from '../engines/admin.js';
import { asWeightcastError, WeightcastError } from '../errors.js';

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  /** Total milliseconds; default: the exchange's budget. */
  readonly timeoutMs?: number | undefined;
}

/** Runs exchanges of one engine. */
export interface EngineLink {
  /** As the user names it: its URL without a trailing slash. */
  readonly id: string;
  readonly url: string;
  readonly backend: string;
  readonly admin: EngineAdmin;
  /** GPU workers, as configured or discovered; null asks the engine. */
  readonly declaredWorkers: number | null;
  call<T>(exchange: Exchange<T>, options?: CallOptions): Promise<T>;
}

/** What an engine says of itself before an update. */
export interface EngineFacts {
  readonly workers: number;
  /** null where the engine can't say. */
  readonly paused: boolean | null;
  /** null where the engine can't say. */
  readonly sleep: SleepState | null;
  readonly model: string | null;
  /** Ids of all that it lists, adapters too. */
  readonly models: readonly string[];
  /** Unix seconds; null where the metrics don't say. */
  readonly processStart: number | null;
  readonly weightVersion: string | null;
}

/** Budget of all questions together where the caller gives none. */
const PROBE_MS = 15_000;

/**
 * Asks everything that an update must know; tolerates what a version lacks. One question after the other, so over one connection: all at once are thousands of
 * connections to a fleet of hundreds, and a busy machine then gives them up and opens them again without end.
 */
export async function probeEngine(engine: EngineLink, options: CallOptions): Promise<EngineFacts> {
  const { admin } = engine;
  const endsAt = performance.now() + (options.timeoutMs ?? PROBE_MS);
  const call = <T>(exchange: Exchange<T>): Promise<T> =>
    engine.call(exchange, { ...options, timeoutMs: Math.max(1, endsAt - performance.now()) });
  const ask = async <T>(exchange: Exchange<T> | null): Promise<T | null> =>
    exchange === null ? null : call(exchange);
  try {
    await call(admin.health());
    const workers = await workersOf(engine, ask);
    const paused = await ask(admin.isPaused());
    const cards = await call(admin.listModels());
    const weightVersion = await ask(admin.weightVersion());
    // Metrics are the last: where they fail or hang, nothing else waits for them.
    const { processStart, sleep } = await lifeOf(admin, ask).catch(() => UNKNOWN_LIFE);
    const models = cards.map(({ id }) => id);
    return { workers, paused, sleep, model: baseModel(cards), models, processStart, weightVersion };
  } catch (error) {
    throw asWeightcastError(error, 'WC_ENGINE_UNREACHABLE', { engine: engine.id, phase: 'preflight' });
  }
}

type Ask = <T>(exchange: Exchange<T> | null) => Promise<T | null>;

const UNKNOWN_LIFE: EngineLife = { processStart: null, sleep: null };

async function lifeOf(admin: EngineAdmin, ask: Ask): Promise<EngineLife> {
  const said = await ask(admin.life?.() ?? null);
  return said ?? { ...UNKNOWN_LIFE, processStart: await ask(admin.processStart()) };
}

async function workersOf({ admin, declaredWorkers, id }: EngineLink, ask: Ask): Promise<number> {
  const said = await ask(admin.worldSize());
  if (said === null) return declaredWorkers ?? 1;
  if (declaredWorkers === null || declaredWorkers === said) return said;
  throw new WeightcastError('WC_CONFIG_INVALID', `it has ${said} workers, not ${declaredWorkers}`, {
    engine: id,
    remedy: 'Leave out the number of workers: this server says it.',
  });
}

function baseModel(models: readonly ModelCard[]): string | null {
  return (models.find((model) => model.parent === null) ?? models[0])?.id ?? null;
}

/** Runs one thing on all engines at the same time (law 4) and never rejects: results and errors by engine. */
export async function onAll<E extends { readonly id: string }, T>(
  engines: readonly E[],
  run: (engine: E) => Promise<T>,
): Promise<{ readonly done: ReadonlyMap<string, T>; readonly failed: ReadonlyMap<string, unknown> }> {
  const done = new Map<string, T>();
  const failed = new Map<string, unknown>();
  await Promise.all(
    engines.map(async (engine) => {
      try {
        done.set(engine.id, await run(engine));
      } catch (error) {
        failed.set(engine.id, error);
      }
    }),
  );
  return { done, failed };
}
