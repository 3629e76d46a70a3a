/** The routes of the three kinds of engine under one set of names, vLLM's: faults strike, and the judge counts, by these. */
import type { RecordedExchange } from '../../src/testing/index.js';
import type { FaultKind, FaultPhase, Pair } from './catalogue.js';
import type { Backend, Scenario } from './scenario.js';

export interface Asked {
  readonly path: string;
  readonly body: string;
}

const PRIME_RL: Readonly<Record<string, string>> = { '/init_broadcaster': '/init_weight_transfer_engine' };

const DYNAMO: Readonly<Record<string, string>> = {
  '/engine/init_weights_update_group': '/init_weight_transfer_engine',
  '/engine/pause_generation': '/pause',
  '/engine/resume_generation': '/resume',
  '/engine/flush_cache': '/reset_prefix_cache',
};

/** What a request asks for, by vLLM's name for it; its own path where vLLM has none. */
export function operationOf(
  backend: Backend,
  transport: Scenario['transport'],
  { path, body }: Asked,
): string {
  switch (backend) {
    case 'vllm':
      return path;
    case 'prime-rl':
      // One route for both: what it does the server was started with.
      if (path === '/update_weights' && transport === 'filesystem') return '/collective_rpc';
      return PRIME_RL[path] ?? path;
    case 'dynamo':
      if (path === '/engine/update_weights_from_distributed') {
        return `/${/"engine_rpc":"(\w+)"/.exec(body)?.[1] ?? 'update_weights_from_distributed'}`;
      }
      // Without a path it is a question: the refusal tells whether the worker is paused.
      if (path === '/engine/update_weights_from_disk') {
        return body.includes('model_path') ? '/collective_rpc' : '/is_paused';
      }
      return DYNAMO[path] ?? path;
  }
}

/** The record of an engine in these names; a refusal with status 200 counts as one. */
export function inVllmsNames(
  backend: Backend,
  transport: Scenario['transport'],
  exchange: RecordedExchange,
): RecordedExchange {
  const path = operationOf(backend, transport, { path: exchange.path, body: exchange.requestBody });
  const refused = backend === 'dynamo' && String(exchange.responseBody).includes('"status":"error"');
  return { ...exchange, path, status: refused ? 500 : exchange.status };
}

/** What is asked of an engine before anything is asked that changes it; of a new one first who it is. */
export const QUESTIONS: Readonly<
  Record<Backend, { readonly always: readonly string[]; readonly first: readonly string[] }>
> = {
  vllm: {
    always: ['/health', '/get_world_size', '/is_paused', '/v1/models', '/metrics'],
    first: ['/version', '/openapi.json'],
  },
  'prime-rl': { always: ['/health', '/v1/models', '/metrics'], first: ['/openapi.json'] },
  dynamo: {
    always: ['/health', '/is_paused', '/metrics', '/engine/get_weight_version'],
    first: ['/engine/set_weight_version'],
  },
};

const LACKS: Readonly<Record<Backend, readonly (FaultKind | FaultPhase)[]>> = {
  vllm: [],
  // Without a checker nothing finds wrong bytes; its frames say their own sizes.
  'prime-rl': ['start', 'finish', 'reset', 'corruption', 'byte-mismatch'],
  // It is scored through its frontend, which stands beside the proxies.
  dynamo: ['verify', 'corruption', 'byte-mismatch'],
};

/** Whether such a fault can strike such an engine. */
export function canStrike({ kind, phase }: Pair, backend: Backend): boolean {
  return !LACKS[backend].includes(kind) && !LACKS[backend].includes(phase);
}

/** An update is begun and finished by requests of its own: vLLM since 0.22, also inside a Dynamo worker. */
export function isThreeStep(backend: Backend, { vllm }: Pick<Scenario, 'vllm'>): boolean {
  return backend === 'dynamo' || (backend === 'vllm' && vllm > '0.21');
}

/** 200, and the error in the body: in the words of each. */
export const REFUSAL: Readonly<Record<Backend, string>> = {
  vllm: '{"error":"Failed: injected"}',
  'prime-rl': '{"error":"Failed: injected"}',
  dynamo: '{"status":"error","message":"Failed: injected"}',
};
