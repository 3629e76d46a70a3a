/** The system status server of a worker: health, metrics, adapters, and `/engine/<route>` by any method (contracts/dynamo.md 1.2, 1.3). */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseBigJson, stringifyBigJson } from '../../engines/big-json.js';
import type { Core } from '../server/core.js';
import type { Dispatch } from '../server/dispatch.js';
import type { Answer } from '../server/replies.js';
import { isObject, type Request } from '../server/validation.js';
import type { RouteFault, RouteFaults } from './faults.js';
import type { RlWorker, RouteHandler } from './rl-worker.js';

export interface SystemPortOptions {
  readonly core: Core;
  readonly worker: RlWorker;
  readonly faults: RouteFaults;
  readonly instanceId: bigint;
  readonly namespace: string;
  readonly component: string;
  /** DYN_SYSTEM_STARTING_HEALTH_STATUS. */
  readonly ready: boolean;
}

const TEXT = 'text/plain; charset=utf-8';
const plain = (status: number, body: string): Answer => ({ status, contentType: TEXT, body });
/** JSON, but the content type does not say so. */
const asText = (status: number, body: unknown): Answer => plain(status, stringifyBigJson(body));
const asJson = (status: number, body: unknown): Answer => ({ status, contentType: 'application/json', body });

const ENDPOINTS = ['generate', 'rl', 'clear_kv_blocks', 'get_perf_metrics'];

/** Makes the HTTP server hang up instead of answering. */
export class HungUp extends Error {}

export function systemPort(options: SystemPortOptions): Dispatch {
  const { worker } = options;
  const routes = new Map([...worker.handlers(), ...worker.controls()]);
  return async (request) => {
    const { path } = request;
    if (path === '/health' || path === '/live') return health(options);
    if (path === '/metrics') return plain(200, metrics(options));
    if (path === '/metadata') return plain(404, 'Discovery metadata not available');
    if (path === '/v1/loras' || path.startsWith('/v1/loras/'))
      return loras(options, request, routes.has('load_lora'));
    if (!path.startsWith('/engine/')) return plain(404, 'Route not found');
    return engineRoute(path.slice('/engine/'.length), request, options, routes);
  };
}

function health({ ready }: SystemPortOptions): Answer {
  const nanos = process.hrtime.bigint() % 1_000_000_000n;
  return asText(ready ? 200 : 503, {
    status: ready ? 'ready' : 'notready',
    uptime: { secs: Math.floor(process.uptime()), nanos: Number(nanos) },
    endpoints: Object.fromEntries(ENDPOINTS.map((endpoint) => [endpoint, 'ready'])),
  });
}

function metrics({ core, worker: rl, instanceId, namespace, component }: SystemPortOptions): string {
  const worker = `worker_id="${instanceId.toString(16)}"`;
  const labels = `{dynamo_component="${component}",dynamo_endpoint="generate",dynamo_namespace="${namespace}",${worker}}`;
  return [
    '# HELP dynamo_component_inflight_requests Number of requests currently being processed by work handler',
    '# TYPE dynamo_component_inflight_requests gauge',
    `dynamo_component_inflight_requests${labels} ${core.scheduler.running + core.scheduler.waiting}`,
    '# HELP dynamo_component_uptime_seconds Total uptime of the DistributedRuntime in seconds',
    '# TYPE dynamo_component_uptime_seconds gauge',
    `dynamo_component_uptime_seconds{${worker}} ${process.uptime()}`,
    ...sleepStates(rl.sleepLevel).map(
      ([state, is]) => `vllm:engine_sleep_state{engine="0",sleep_state="${state}"} ${is ? 1 : 0}`,
    ),
    '',
  ].join('\n');
}

/** As vLLM's own gauge says it. */
function sleepStates(level: number | null): readonly (readonly [string, boolean])[] {
  return [
    ['awake', level === null],
    ['weights_offloaded', level === 1],
    ['discard_all', level === 2],
  ];
}

const NO_LORA =
  "LoRA management not available: no 'list_loras' handler is registered (neither a local LoRA endpoint nor an engine update). This worker either has LoRA disabled or its backend does not support LoRA management.";

function loras({ worker }: SystemPortOptions, request: Request, enabled: boolean): Answer {
  if (!enabled) return asJson(500, { status: 'error', message: NO_LORA });
  const name = decodeURIComponent(request.path.slice('/v1/loras/'.length));
  if (request.method === 'GET') return asJson(200, worker.loras.list());
  if (request.method === 'POST') {
    const body = readBody(request.text);
    if (!isObject(body) || body.source === undefined) {
      const where = `at line 1 column ${request.text.length}`;
      return plain(
        422,
        `Failed to deserialize the JSON body into the target type: missing field \`source\` ${where}`,
      );
    }
    const { hot_swap: _, ...answer } = worker.loras.load(body);
    return asJson(answer.status === 'error' ? 500 : 200, answer);
  }
  const answer = worker.loras.unload({ lora_name: name });
  return asJson(answer.status === 'error' ? 500 : 200, answer);
}

/** undefined for what is no JSON. */
function readBody(text: string): unknown {
  if (text === '') return {};
  try {
    return parseBigJson(text);
  } catch {
    return undefined;
  }
}

async function engineRoute(
  route: string,
  request: Request,
  { faults }: SystemPortOptions,
  routes: ReadonlyMap<string, RouteHandler>,
): Promise<Answer> {
  const body = readBody(request.text);
  if (body === undefined) {
    return asText(400, { error: 'Invalid JSON', message: 'key must be a string at line 1 column 2' });
  }
  const handler = routes.get(route);
  if (handler === undefined) {
    return asText(404, { error: 'Route not found', message: `Route /engine/${route} not found` });
  }
  if (body !== null && !isObject(body)) {
    return asText(200, { status: 'error', message: 'request body must be a JSON object' });
  }
  const fault: RouteFault = faults.next(route, request.text) ?? {};
  if (fault.delayMs !== undefined) await sleep(fault.delayMs);
  if (fault.refuse !== undefined) return asText(200, { status: 'error', message: fault.refuse });
  try {
    if (fault.raise !== undefined) throw new Error(fault.raise);
    const answer = await handler(body ?? {});
    if (fault.drop === true) throw new HungUp();
    if (fault.answer !== undefined) return asText(fault.answer.status, fault.answer.body);
    return asText(200, answer);
  } catch (error) {
    if (error instanceof HungUp) throw error;
    const message = `Python callback failed: RuntimeError: ${error instanceof Error ? error.message : String(error)}`;
    return asText(500, { error: 'Handler error', message });
  }
}
