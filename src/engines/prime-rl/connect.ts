/** Finds out what a prime-rl server has, by its routes: nothing that is sent has effects. */
import { WeightcastError } from '../../errors.js';
import type { EngineAdmin, Exchange, Reply } from '../admin.js';
import type { ConnectOptions } from '../connect.js';
import type { EngineTarget, HttpClient } from '../http.js';
import { listedRoutes, question } from '../question.js';
import { type PrimeRlIdentity, primeRlAdmin } from './admin.js';
import { failure } from './errors.js';
import { type Generation, generationOf, isPrimeRl, isShadowed, TELLING_ROUTES } from './generation.js';
import { NO_ROUTE } from './read.js';

/**
 * The admin operations of the prime-rl server at `target`. Parameters: `broadcast=nccl|filesystem`, how it was started to receive (default: as weights are
 * about to be sent), and `pause=none`, which accepts a server that can't be paused.
 *
 * @throws WeightcastError WC_ENGINE_PROTOCOL, WC_ENGINE_DEV_MODE, WC_ENGINE_VERSION, WC_ENGINE_UNAUTHORIZED, WC_CONFIG_INVALID, and what the HTTP client throws
 */
export async function connectPrimeRl(
  http: HttpClient,
  target: EngineTarget,
  options: ConnectOptions = {},
): Promise<EngineAdmin> {
  const { pause } = target.parameters;
  const broadcast = broadcastOf(target, options);
  if (pause !== undefined && pause !== 'none')
    throw invalid(`pause=${pause}: only pause=none is known`, target);
  const routes =
    (await http.exchange(target, routesQuestion(target), options)) ??
    (await foundRoutes(http, target, options));
  if (isShadowed(routes)) throw shadowed(target);
  if (!isPrimeRl(routes)) throw notPrimeRl(target);
  const generation = generationOf(routes);
  if (!generation.pauses && pause !== 'none') throw unpausable(target, generation);
  return primeRlAdmin({
    engine: target.id,
    generation,
    broadcast,
    notes: notesOf(generation, broadcast),
  });
}

function broadcastOf(
  { parameters, id }: EngineTarget,
  { transport }: ConnectOptions,
): PrimeRlIdentity['broadcast'] {
  const named = parameters.broadcast ?? transport ?? 'nccl';
  if (named === 'nccl' || named === 'filesystem') return named;
  throw new WeightcastError(
    'WC_CONFIG_INVALID',
    `engine: broadcast=${named.slice(0, 40)}: a prime-rl server receives by nccl or filesystem`,
    { engine: id },
  );
}

function notesOf(generation: Generation, broadcast: PrimeRlIdentity['broadcast']): string[] {
  const notes: string[] = [];
  if (broadcast === 'nccl' && !generation.joins)
    notes.push('it has no /init_broadcaster: it can receive nothing by NCCL');
  if (!generation.resetsPrefixCache)
    notes.push(
      'its prefix cache outlives an update: send the weight version as cache_salt with every request',
    );
  if (!generation.pauses)
    notes.push(
      `prime-rl ${generation.version} can't be paused: it answers requests between the steps of an update, and one that fails leaves it serving whatever it holds`,
    );
  return notes;
}

function routesQuestion(target: EngineTarget): Exchange<ReadonlySet<string> | null> {
  return question('openapi', '/openapi.json', (reply) => {
    requireAccess(reply, target, 'openapi');
    return listedRoutes(reply);
  });
}

/** Asks each route by GET: one that takes only POST answers 405, one that is not there 404. */
async function foundRoutes(
  http: HttpClient,
  target: EngineTarget,
  options: ConnectOptions,
): Promise<ReadonlySet<string>> {
  const found = await Promise.all(
    TELLING_ROUTES.map((route) =>
      http.exchange(
        target,
        question(route, route, (reply) => {
          requireAccess(reply, target, route);
          return reply.status === 404 ? [] : [route];
        }),
        options,
      ),
    ),
  );
  return new Set(found.flat());
}

function requireAccess(reply: Reply, target: EngineTarget, operation: string): void {
  if (reply.status === 401 || reply.status === 403)
    throw failure(reply, { engine: target.id, operation, remedy: null });
}

function shadowed(target: EngineTarget): WeightcastError {
  return new WeightcastError(
    'WC_ENGINE_DEV_MODE',
    "the server runs in vLLM's development mode: there /pause and /update_weights are vLLM's, not prime-rl's",
    {
      engine: target.id,
      remedy: 'Start it without VLLM_SERVER_DEV_MODE; a plain vLLM server is named vllm=URL.',
    },
  );
}

function notPrimeRl(target: EngineTarget): WeightcastError {
  return new WeightcastError(
    'WC_ENGINE_PROTOCOL',
    `${target.url} is not a prime-rl server: it has no /update_weights`,
    {
      engine: target.id,
      remedy: target.url.endsWith('/v1')
        ? `Leave out /v1: ${target.url.slice(0, -'/v1'.length)}`
        : `${NO_ROUTE} If it may be something else, auto=${target.url} finds out.`,
    },
  );
}

function unpausable(target: EngineTarget, { version }: Generation): WeightcastError {
  return new WeightcastError(
    'WC_ENGINE_VERSION',
    `prime-rl ${version} has no /pause: were an update to fail, nothing could keep it from serving a mixture of two versions`,
    {
      engine: target.id,
      remedy: 'Update it to prime-rl 0.5 or later, or accept that with pause=none behind its address.',
    },
  );
}

function invalid(message: string, target: EngineTarget): WeightcastError {
  return new WeightcastError('WC_CONFIG_INVALID', `engine: ${message}`, { engine: target.id });
}
