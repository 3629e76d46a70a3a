/** One engine of a fleet: its admin operations and a way to run them. */
import type { EngineAdmin, Exchange, ModelCard } from '../engines/admin.js';
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
  readonly model: string | null;
  /** Unix seconds; null where the metrics don't say. */
  readonly processStart: number | null;
  readonly weightVersion: string | null;
}

/** Asks everything that an update must know, at once; tolerates what a version lacks. */
export async function probeEngine(engine: EngineLink, options: CallOptions): Promise<EngineFacts> {
  const { admin } = engine;
  const ask = async <T>(exchange: Exchange<T> | null): Promise<T | null> =>
    exchange === null ? null : engine.call(exchange, options);
  try {
    const [, workers, paused, models, processStart, weightVersion] = await Promise.all([
      engine.call(admin.health(), options),
      workersOf(engine, ask),
      ask(admin.isPaused()),
      engine.call(admin.listModels(), options),
      ask(admin.processStart()).catch(() => null),
      ask(admin.weightVersion()),
    ]);
    return { workers, paused, model: baseModel(models), processStart, weightVersion };
  } catch (error) {
    throw asWeightcastError(error, 'WC_ENGINE_UNREACHABLE', { engine: engine.id, phase: 'preflight' });
  }
}

type Ask = <T>(exchange: Exchange<T> | null) => Promise<T | null>;

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
