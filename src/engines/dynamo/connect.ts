/** Finds out which dialect a Dynamo worker speaks; nothing that is sent has effects. */
import { WeightcastError } from '../../errors.js';
import type { EngineAdmin, Exchange, Reply } from '../admin.js';
import type { EngineTarget, ExchangeOptions, HttpClient } from '../http.js';
import { isRecord } from '../is-record.js';
import { callsOf } from './calls.js';
import { type FailedCall, failure } from './errors.js';
import { workerMetrics } from './metrics.js';
import { type DynamoDialect, type DynamoParameters, dynamoParameters } from './parameters.js';
import { pythonAdmin } from './python.js';
import { dialectOf, type Routes, routesOf } from './routes.js';
import { sglangAdmin } from './sglang.js';
import { sidecarAdmin } from './sidecar.js';
import type { DynamoWorker } from './worker.js';

const ADMINS: Readonly<Record<DynamoDialect, (worker: DynamoWorker) => EngineAdmin>> = {
  python: pythonAdmin,
  sidecar: sidecarAdmin,
  sglang: sglangAdmin,
};

/** A route of each dialect that, asked with `{}`, answers or refuses and changes nothing. */
const PROBES: readonly (readonly [DynamoDialect, string])[] = [
  ['python', 'get_weight_version'],
  ['sidecar', 'control/get_weight_version'],
  // Needs a new_version.
  ['sglang', 'control/update_weight_version'],
];

/** Only where the worker was started with an allow-list that names it (contracts/dynamo.md 1.8). */
const SGLANG_ALLOWED = ['flush_cache'];

/** Newer than the dialect; without a list it must be asked for. */
const SET_VERSION = 'set_weight_version';

/**
 * The admin operations of the worker whose system port is `target`: its dialect by `parameters`, by the routes that discovery listed, or by asking.
 *
 * @throws WeightcastError WC_CONFIG_INVALID, WC_ENGINE_NOT_CONFIGURED, WC_ENGINE_PROTOCOL, and what the HTTP client throws
 */
export async function connectDynamo(
  http: HttpClient,
  target: EngineTarget,
  options: ExchangeOptions = {},
): Promise<EngineAdmin> {
  const parameters = dynamoParameters(target);
  const { dialect, routes } = await identify(http, target, parameters, options);
  const metrics = await http.exchange(
    target,
    callsOf(target.id).get('/metrics', { operation: 'metrics', budget: 'probe', read: workerMetrics }),
    options,
  );
  return ADMINS[dialect]({ target, parameters, routes, metrics, notes: notesOf(target, parameters) });
}

interface Identity {
  readonly dialect: DynamoDialect;
  readonly routes: Routes;
}

async function identify(
  http: HttpClient,
  target: EngineTarget,
  parameters: DynamoParameters,
  options: ExchangeOptions,
): Promise<Identity> {
  const { dialect, routes } = parameters;
  if (routes !== null) {
    const known = dialect ?? dialectOf(routes);
    if (known !== null) return { dialect: known, routes: routesOf(routes) };
    throw new WeightcastError('WC_ENGINE_NOT_CONFIGURED', 'none of its routes updates weights', {
      engine: target.id,
      details: { routes: [...routes].slice(0, 100) },
      remedy: 'Start the worker with --enable-rl.',
    });
  }
  const has = (route: string) => http.exchange(target, routeProbe(target.id, route), options);
  for (const [candidate, route] of PROBES) {
    if (dialect !== null ? candidate !== dialect : !(await has(route))) continue;
    if (candidate === 'sglang') return { dialect: candidate, routes: routesOf(null, SGLANG_ALLOWED) };
    const absent = candidate === 'python' && !(await has(SET_VERSION)) ? [SET_VERSION] : [];
    return { dialect: candidate, routes: routesOf(null, absent) };
  }
  throw new WeightcastError('WC_ENGINE_NOT_CONFIGURED', 'it has no route that updates weights', {
    engine: target.id,
    remedy:
      'Start a dynamo.vllm worker with --enable-rl and DYN_SYSTEM_PORT (a mocker has no such routes), or say dialect=python.',
  });
}

/** Whether `/engine/<route>` is there. */
function routeProbe(engine: string, route: string): Exchange<boolean> {
  return callsOf(engine).engine(route, {
    operation: route,
    budget: 'probe',
    retryable: true,
    read: (reply, call) => {
      if (reply.status !== 404) {
        // Whatever answers JSON here was registered: also a refusal of `{}`, also an exception in a handler.
        if (isRecord(reply.json) && (reply.status === 200 || reply.status === 500)) return true;
        throw failure(reply, call);
      }
      if (isRecord(reply.json) && reply.json.error === 'Route not found') return false;
      throw notAWorker(reply, call);
    },
  });
}

/** Routes of Dynamo's frontend say it like this: `{"message":"Route not found: POST /engine/…","type":"Not Found","code":404}`. */
function notAWorker(reply: Reply, call: FailedCall): WeightcastError {
  const isFrontend = isRecord(reply.json) && reply.json.type === 'Not Found' && reply.json.code === 404;
  return new WeightcastError(
    'WC_ENGINE_PROTOCOL',
    isFrontend
      ? "this is Dynamo's frontend, not a worker"
      : 'it does not answer like the system port of a Dynamo worker',
    {
      engine: call.engine,
      cause: failure(reply, call),
      details: { operation: call.operation, status: 404 },
      remedy: isFrontend
        ? "Give each worker's system URL (DYN_SYSTEM_PORT) as dynamo=URL,inference=THIS, or let --discover dynamo=URL find them."
        : 'Check the address: a worker answers at GET /health of its DYN_SYSTEM_PORT.',
    },
  );
}

function notesOf(target: EngineTarget, { adminBaseUrl }: DynamoParameters): readonly string[] {
  const notes: string[] = [];
  if (target.inferenceUrl === null) {
    notes.push('its models and scores are not known: give the frontend as inference=http://HOST:8000');
  }
  if (adminBaseUrl !== null) {
    notes.push(`its vLLM has an admin server of its own, and can also be driven as vllm=${adminBaseUrl}`);
  }
  return notes;
}
