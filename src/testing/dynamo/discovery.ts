/** The RL listener: `GET /v1/rl/workers` on a port of its own (contracts/dynamo.md 2.1; test/vectors/dynamo). */
import { setTimeout as sleep } from 'node:timers/promises';
import { stringifyBigJson } from '../../engines/big-json.js';
import type { Dispatch } from '../server/dispatch.js';
import type { ReferenceDynamoWorker } from './worker.js';

export interface DiscoveryOptions {
  readonly namespace: string;
  readonly component: string;
  readonly model: string;
  /** DYN_RL_REQUEST_TIMEOUT_SECS, in milliseconds. */
  readonly requestTimeoutMs: number;
  /** Those that are still in discovery: an ended one stays until its lease is over. */
  workers(): readonly ReferenceDynamoWorker[];
}

export function discovery(options: DiscoveryOptions): Dispatch {
  return async ({ method, path }) => {
    if (method !== 'GET' || path !== '/v1/rl/workers') return { status: 404, contentType: null, body: null };
    const workers = await Promise.all(options.workers().map((worker) => describe(worker, options)));
    // By the random id, which is not the order in which they were started.
    workers.sort((one, other) => (one.instance_id < other.instance_id ? -1 : 1));
    const body = { protocol_version: 1, namespace: options.namespace, workers };
    return { status: 200, contentType: 'application/json', body: stringifyBigJson(body) };
  };
}

interface Listed extends Record<string, unknown> {
  readonly instance_id: bigint;
}

async function describe(
  worker: ReferenceDynamoWorker,
  { namespace, component, model, requestTimeoutMs }: DiscoveryOptions,
): Promise<Listed> {
  const { instanceId, systemUrl, engine } = worker;
  const address = `127.0.0.1:${engine.port}`;
  const head = {
    namespace,
    component,
    endpoint: 'rl',
    instance_id: instanceId,
    transport: { tcp: `${address}/${instanceId.toString(16)}/${namespace}/${component}/rl` },
    request_plane_url: `dyn://${namespace}.${component}.rl`,
  };
  const late = { error: `worker discovery timed out after ${Math.ceil(requestTimeoutMs / 1000)}s` };
  const asked = worker
    .discovered()
    .catch(() => ({ error: `Unavailable: TCP connection to ${address} failed` }));
  const said = await Promise.race([asked, sleep(requestTimeoutMs, late, { ref: false })]);
  if ('error' in said) return { ...head, model, routes: [], error: said.error };
  return {
    ...head,
    ...(systemUrl === null ? {} : { system_url: systemUrl }),
    model,
    routes: said.routes,
    world_size: said.worldSize,
  };
}
