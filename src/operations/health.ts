/** Waiting for engines, and asking what they serve: the open routes that every backend has, so that nothing need be connected. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Exchange, ModelCard } from '../engines/admin.js';
import { createHttpClient, type EngineTarget, type HttpClient } from '../engines/http.js';
import { question } from '../engines/question.js';
import { models } from '../engines/vllm-native/read.js';
import { asWeightcastError, hasCode, WeightcastError } from '../errors.js';
import { requireModel } from '../fleet/served-model.js';
import { type EngineName, type OperationOptions, onEvery, targetsOf } from './engines.js';

export interface HealthOptions extends Omit<OperationOptions, 'timeoutMs'> {
  /** Milliseconds between two looks. Default 1000. */
  readonly intervalMs?: number;
  /** Milliseconds between two lines of the log. Default 10,000. */
  readonly logIntervalMs?: number;
  /** Milliseconds until all must be healthy. Default 1,800,000, as prime-rl waits. */
  readonly timeoutMs?: number;
}

/** One look may take so long. */
const LOOK_MS = 5_000;

/**
 * Waits until every engine says that it is healthy. A 404 counts as healthy: a router in front of engines has no /health of its own.
 *
 * @example
 * await checkHealth(['http://10.0.0.5:8000'], { onLog: console.log });
 *
 * @throws WeightcastError WC_ENGINE_TIMEOUT, which names the engines that are not; WC_ENGINE_UNAUTHORIZED, WC_UPDATE_ABORTED, WC_CONFIG_INVALID
 */
export async function checkHealth(
  engines: readonly EngineName[],
  options: HealthOptions = {},
): Promise<void> {
  const { intervalMs = 1_000, logIntervalMs = 10_000, timeoutMs = 1_800_000, signal, onLog } = options;
  const targets = targetsOf(engines, options);
  await using http = createHttpClient({ retry: { attempts: 1 } });
  const startedMs = performance.now();
  const elapsed = () => performance.now() - startedMs;
  /** Why each engine was not healthy at the last look. */
  const waiting = new Map<string, unknown>(targets.map(({ id }) => [id, null]));
  let loggedMs = Number.NEGATIVE_INFINITY;
  for (;;) {
    await Promise.all(
      targets
        .filter(({ id }) => waiting.has(id))
        .map(async (target) => {
          const lookMs = Math.min(LOOK_MS, Math.max(1, timeoutMs - elapsed()));
          try {
            await look(http, target, options, lookMs);
            waiting.delete(target.id);
          } catch (error) {
            // A look that the deadline cuts short says less than the one before.
            const cut = lookMs < LOOK_MS && hasCode(error, 'WC_ENGINE_TIMEOUT');
            if (!cut || waiting.get(target.id) === null) waiting.set(target.id, error);
          }
        }),
    );
    if (waiting.size === 0) return;
    const hopeless = [...waiting.values()].find(
      (error) => hasCode(error, 'WC_CONFIG_INVALID') || hasCode(error, 'WC_ENGINE_UNAUTHORIZED'),
    );
    if (hopeless !== undefined) throw hopeless;
    if (signal?.aborted) throw aborted(signal);
    if (elapsed() + intervalMs > timeoutMs) throw unhealthy(waiting, timeoutMs);
    if (elapsed() - loggedMs >= logIntervalMs) {
      loggedMs = elapsed();
      onLog?.(`waiting for ${describe(waiting)} since ${Math.round(elapsed() / 1000)} s`);
    }
    await sleep(intervalMs, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
  }
}

async function look(
  http: HttpClient,
  target: EngineTarget,
  { admin, signal }: HealthOptions,
  timeoutMs: number,
): Promise<void> {
  const health = typeof admin === 'function' ? (await admin(target)).health() : openHealth(target.id);
  const tolerant: Exchange<void> = {
    ...health,
    retryable: false,
    read: (reply) => (reply.status === 404 ? undefined : health.read(reply)),
  };
  await http.exchange(target, tolerant, { signal, timeoutMs });
}

function openHealth(engine: string): Exchange<void> {
  return question('health', '/health', ({ status }) => {
    if (status >= 200 && status < 300) return;
    const code = status === 401 || status === 403 ? 'WC_ENGINE_UNAUTHORIZED' : 'WC_ENGINE_HTTP';
    throw new WeightcastError(code, `health: the engine answered ${status}`, {
      engine,
      details: { operation: 'health', status },
    });
  });
}

function unhealthy(waiting: ReadonlyMap<string, unknown>, timeoutMs: number): WeightcastError {
  return new WeightcastError(
    'WC_ENGINE_TIMEOUT',
    `not healthy within ${Math.round(timeoutMs / 1000)} s: ${describe(waiting)}`,
    { engine: [...waiting.keys()][0], details: { engines: [...waiting.keys()] } },
  );
}

function describe(waiting: ReadonlyMap<string, unknown>): string {
  return [...waiting]
    .map(([id, error]) => `${id} (${error instanceof Error ? error.message : 'not asked yet'})`)
    .join(', ');
}

function aborted({ reason }: AbortSignal): WeightcastError {
  return asWeightcastError(reason, 'WC_UPDATE_ABORTED');
}

/**
 * What each engine serves, by engine; asked where its models are, which for a Dynamo worker is the frontend.
 *
 * @throws WeightcastError of the first that does not say
 */
export async function listModels(
  engines: readonly EngineName[],
  options: OperationOptions = {},
): Promise<ReadonlyMap<string, readonly ModelCard[]>> {
  const { admin, signal, timeoutMs } = options;
  await using http = createHttpClient();
  return await onEvery(targetsOf(engines, options), async (target) => {
    const own = typeof admin === 'function' ? (await admin(target)).listModels() : null;
    return http.exchange(target, own ?? openModels(target.id), { signal, timeoutMs });
  });
}

function openModels(engine: string): Exchange<readonly ModelCard[]> {
  const operation = 'models';
  return {
    ...question(operation, '/v1/models', (reply) => models(reply, { engine, operation, route: 'open' })),
    at: 'inference',
  };
}

/**
 * Checks that every engine serves `model`, unless `skipModelCheck` is set (an API that lists none).
 *
 * @throws WeightcastError WC_CONFIG_INVALID, which names an engine that does not and what it serves
 */
export async function maybeCheckHasModel(
  engines: readonly EngineName[],
  model: string,
  options: OperationOptions & { readonly skipModelCheck?: boolean } = {},
): Promise<void> {
  if (options.skipModelCheck === true) return;
  for (const [engine, cards] of await listModels(engines, options)) {
    requireModel(
      engine,
      model,
      cards.map(({ id }) => id),
    );
  }
}
