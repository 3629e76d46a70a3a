/** collective_rpc: the worker methods that `engine_rpc` may name, with exactly their keyword arguments. */
import * as primeRl from '../prime-rl/worker-methods.js';
import type { Handler } from '../server/admin.js';
import type { Core } from '../server/core.js';
import { workerFailure } from '../server/replies.js';
import { TRANSFER } from '../server/transfer.js';
import { WorkerError } from '../server/transfer-info.js';
import { isObject, Refusal, type Request } from '../server/validation.js';

/** `--worker-extension-cls`: whose methods a worker has beside vLLM's own. */
export type WorkerExtension = 'prime-rl';

type Kwargs = Readonly<Record<string, unknown>>;

interface WorkerMethod {
  readonly kwargs: readonly string[];
  /** In the text of a TypeError. */
  readonly name: string;
  /** As vLLM's server would be asked for it. */
  readonly route?: string;
  readonly run?: (core: Core, kwargs: Kwargs) => Promise<void>;
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

/** Ranks without the trainer: NCCLWeightUpdateWorker of prime-rl #2773. */
const EXTENSIONS: Readonly<Record<WorkerExtension, Readonly<Record<string, WorkerMethod>>>> = {
  'prime-rl': {
    init_broadcaster: {
      kwargs: [
        ...['host', 'port', 'rank_offset', 'inference_world_size', 'timeout'],
        ...['quantize_in_weight_transfer', 'session_id'],
      ],
      name: 'NCCLWeightUpdateWorker.init_broadcaster()',
      run: (core, { host, port, rank_offset: offset, inference_world_size: workers }) =>
        core.utility(() =>
          primeRl.initBroadcaster(core, {
            masterAddress: String(host),
            masterPort: Number(port),
            uniqueId: null,
            rankOffset: Number(offset) + 1,
            worldSize: Number(workers) + 1,
          }),
        ),
    },
    update_weights_from_path: {
      kwargs: ['weight_dir'],
      name: 'NCCLWeightUpdateWorker.update_weights_from_path()',
      run: (core) => core.utility(() => primeRl.updateWeightsFromPath(core, null)),
    },
  },
};

/** What a handler answers with `{"status":"error"}`. */
export class EngineError extends Error {}

/** @throws EngineError in the words of the real one */
export async function collectiveRpc(
  core: Core,
  method: string,
  kwargs: Kwargs,
  extension?: WorkerExtension,
): Promise<void> {
  const methods = { ...METHODS, ...(extension === undefined ? {} : EXTENSIONS[extension]) };
  const known = Object.hasOwn(methods, method) ? methods[method] : undefined;
  if (known === undefined) throw engineError(core, `'CPUWorker' object has no attribute '${method}'`);
  const unexpected = Object.keys(kwargs).find((key) => !known.kwargs.includes(key));
  if (unexpected !== undefined) {
    throw engineError(core, `${known.name} got an unexpected keyword argument '${unexpected}'`);
  }
  try {
    if (known.run !== undefined) await known.run(core, kwargs);
    else await ask(core, known.route ?? '', method === 'reload_weights' ? { method, kwargs } : kwargs);
  } catch (error) {
    throw error instanceof WorkerError ? engineError(core, error.message) : asEngineError(error);
  }
}

async function ask(core: Core, route: string, body: object): Promise<void> {
  await (TRANSFER[route] as Handler)(core, requestOf(route, body), new AbortController().signal);
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
