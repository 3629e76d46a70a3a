/** Finds out what a server is before anything with effects is sent to it. */
import { WeightcastError } from '../../errors.js';
import type { Exchange, TransferBackend } from '../admin.js';
import type { EngineTarget, ExchangeOptions, HttpClient } from '../http.js';
import { listedRoutes, question } from '../question.js';
import { type Selection, selectDialect } from '../vllm-native/dialects.js';
import { type FailedCall, failure } from '../vllm-native/errors.js';
import * as read from '../vllm-native/read.js';
import { type VllmAdmin, vllmAdmin } from './admin.js';
import { crossCheck, isPrimeRls, lacksAdminRoutes } from './cross-check.js';

/**
 * The admin operations of the server at `target`: its dialect by /version, held against the routes of /openapi.json.
 *
 * @throws WeightcastError WC_ENGINE_VERSION, WC_ENGINE_DEV_MODE, WC_ENGINE_PROTOCOL, and what the HTTP client throws.
 */
export async function connectVllm(
  http: HttpClient,
  target: EngineTarget,
  options: ExchangeOptions = {},
): Promise<VllmAdmin> {
  const version = await http.exchange(target, versionProbe(target), options);
  const selection = selectDialect(version, target.id);
  const routes = await http.exchange(target, question('openapi', '/openapi.json', listedRoutes), options);
  const { dialect, notes } =
    routes === null
      ? await withoutRoutes(http, target, selection, options)
      : withRoutes(target, selection, routes);
  const transferBackend = transferOf(target);
  return vllmAdmin({ engine: target.id, version, notes, transferBackend }, dialect);
}

/** transfer=sparse_nccl: the backend of weight transfer that it was started with. @throws WeightcastError WC_CONFIG_INVALID */
function transferOf({ parameters }: EngineTarget): TransferBackend | undefined {
  const { transfer } = parameters ?? {};
  if (transfer === undefined || transfer === 'nccl' || transfer === 'sparse_nccl') return transfer;
  throw new WeightcastError(
    'WC_CONFIG_INVALID',
    `engine: transfer=${transfer.slice(0, 80)} is neither nccl nor sparse_nccl`,
  );
}

function withRoutes(target: EngineTarget, selection: Selection, routes: ReadonlySet<string>): Selection {
  if (isPrimeRls(routes)) {
    throw new WeightcastError('WC_ENGINE_PROTOCOL', 'this is a prime-rl server, not a plain vLLM', {
      engine: target.id,
      remedy: `Name it prime-rl=${target.url}`,
    });
  }
  if (lacksAdminRoutes(routes)) {
    throw new WeightcastError('WC_ENGINE_DEV_MODE', 'the server lists none of the admin routes', {
      engine: target.id,
    });
  }
  return crossCheck(selection, routes);
}

async function withoutRoutes(
  http: HttpClient,
  target: EngineTarget,
  selection: Selection,
  options: ExchangeOptions,
): Promise<Selection> {
  const call = { engine: target.id, operation: 'get_world_size', route: 'admin' } as const;
  await http.exchange(
    target,
    question(call.operation, '/get_world_size', (reply) => read.worldSize(reply, call)),
    options,
  );
  const note = 'the server does not list its routes (/openapi.json): the dialect is by version alone';
  return { ...selection, notes: [...selection.notes, note] };
}

function versionProbe(target: EngineTarget): Exchange<string> {
  const call: FailedCall = { engine: target.id, operation: 'version', route: 'open' };
  return question(call.operation, '/version', (reply) => {
    if (reply.status === 404) throw notVllm(target, failure(reply, call));
    return read.text('version')(reply, call);
  });
}

function notVllm(target: EngineTarget, cause: WeightcastError): WeightcastError {
  const remedy = target.url.endsWith('/v1')
    ? `Leave out /v1: ${target.url.slice(0, -'/v1'.length)}`
    : `Check the address: vLLM answers at /version. A Dynamo worker is named dynamo=URL, and its frontend by --discover dynamo=URL; auto=${target.url} finds out.`;
  return new WeightcastError('WC_ENGINE_PROTOCOL', `${target.url} is not a vLLM server: it has no /version`, {
    engine: target.id,
    remedy,
    cause,
    details: cause.details,
  });
}

/**
 * True when anyone who reaches the server can pause it and change its weights: --api-key does not guard the admin routes.
 * Asks without credentials.
 */
export function adminRoutesOpen(
  http: HttpClient,
  target: EngineTarget,
  options: ExchangeOptions = {},
): Promise<boolean> {
  const stranger = { ...target, apiKey: null, headers: {} };
  return http.exchange(
    stranger,
    question('get_world_size', '/get_world_size', (reply) => reply.status === 200),
    options,
  );
}
