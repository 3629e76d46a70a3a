/** collective_rpc: the worker methods that `engine_rpc` may name, with exactly their keyword arguments. */
import type { Handler } from '../server/admin.js';
import type { Core } from '../server/core.js';
import { workerFailure } from '../server/replies.js';
import { TRANSFER } from '../server/transfer.js';
import { isObject, Refusal, type Request } from '../server/validation.js';

interface WorkerMethod {
  readonly route: string;
  readonly kwargs: readonly string[];
  /** In the text of a TypeError. */
  readonly name: string;
}

const METHODS: Readonly<Record<string, WorkerMethod>> = {
  init_weight_transfer_engine: {
    route: 'POST /init_weight_transfer_engine',
    kwargs: ['init_info'],
    name: 'Worker.init_weight_transfer_engine()',
  },
  start_weight_update: {
    route: 'POST /start_weight_update',
    kwargs: [],
    name: 'Worker.start_weight_update()',
  },
  update_weights: { route: 'POST /update_weights', kwargs: ['update_info'], name: 'Worker.update_weights()' },
  finish_weight_update: {
    route: 'POST /finish_weight_update',
    kwargs: [],
    name: 'Worker.finish_weight_update()',
  },
  reload_weights: {
    route: 'POST /collective_rpc',
    kwargs: ['weights_path', 'weights_iterator', 'is_checkpoint_format'],
    name: 'GPUModelRunner.reload_weights()',
  },
};

/** What a handler answers with `{"status":"error"}`. */
export class EngineError extends Error {}

/** @throws EngineError in the words of the real one */
export async function collectiveRpc(
  core: Core,
  method: string,
  kwargs: Readonly<Record<string, unknown>>,
): Promise<void> {
  const known = Object.hasOwn(METHODS, method) ? METHODS[method] : undefined;
  if (known === undefined) throw engineError(core, `'CPUWorker' object has no attribute '${method}'`);
  const unexpected = Object.keys(kwargs).find((key) => !known.kwargs.includes(key));
  if (unexpected !== undefined) {
    throw engineError(core, `${known.name} got an unexpected keyword argument '${unexpected}'`);
  }
  const body = method === 'reload_weights' ? { method, kwargs } : kwargs;
  try {
    await (TRANSFER[known.route] as Handler)(
      core,
      requestOf(known.route, body),
      new AbortController().signal,
    );
  } catch (error) {
    throw asEngineError(error);
  }
}

/** The engine's own words, out of the answer that vLLM's server would have given. */
export function asEngineError(error: unknown): unknown {
  if (!(error instanceof Refusal)) return error;
  const { body } = error.answer;
  const inner = isObject(body) ? body.error : undefined;
  return new EngineError(isObject(inner) ? String(inner.message) : String(body));
}

function engineError(core: Core, message: string): unknown {
  return asEngineError(new Refusal(workerFailure(core.profile, message)));
}

function requestOf(route: string, body: object): Request {
  const [method = '', path = ''] = route.split(' ');
  return {
    method,
    path,
    query: new URLSearchParams(),
    contentType: 'application/json',
    authorization: null,
    text: JSON.stringify(body),
  };
}
