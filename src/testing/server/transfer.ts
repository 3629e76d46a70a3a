/** The weight-transfer routes and the reload from disk. */
import { type Handler, requireString } from './admin.js';
import type { Core } from './core.js';
import { type Answer, badRequest, json, serverError } from './replies.js';
import {
  finished,
  reloaded,
  reloadFailed,
  requireOpen,
  type Session,
  started,
  updateFailed,
  updateReceived,
} from './session.js';
import {
  parseInitInfo,
  parseSparseInfo,
  parseUpdateInfo,
  type ReceiveOrder,
  WorkerError,
} from './transfer-info.js';
import {
  invalid,
  isObject,
  type JsonObject,
  jsonProblem,
  looseBody,
  missing,
  parseJson,
  Refusal,
  type Request,
  typedBody,
} from './validation.js';

const message = (text: string): Answer => json({ message: text });

function requireConfigured(core: Core): void {
  if (!core.options.weightTransfer) {
    throw new WorkerError(
      'Weight transfer not configured. Please set weight_transfer_config to enable weight transfer.',
    );
  }
}

/** Body of a handler that calls `.get` on whatever JSON it got. */
function looseObject(core: Core, request: Request): JsonObject {
  const body = looseBody(request);
  if (!isObject(body)) {
    const type = Array.isArray(body)
      ? 'list'
      : body === null
        ? 'NoneType'
        : typeof body === 'string'
          ? 'str'
          : 'int';
    throw new Refusal(serverError(core.profile, `'${type}' object has no attribute 'get'`));
  }
  return body;
}

/** The `init_info` or `update_info` of a body, by the version's manners. */
function infoOf(core: Core, request: Request, field: 'init_info' | 'update_info'): unknown {
  if (!core.profile.typedBodies) {
    const info = looseObject(core, request)[field];
    if (info === undefined || info === null) {
      throw new Refusal(badRequest(`Missing '${field}' in request body`));
    }
    return info;
  }
  const info = typedBody(core.profile, request)?.[field];
  if (info === undefined) {
    throw missing(core.profile, field, null);
  }
  if (isObject(info) || (field === 'update_info' && Array.isArray(info))) {
    return info;
  }
  const loc = ['body', field];
  const problems = [{ type: 'dict_type', loc, msg: 'Input should be a valid dictionary', input: info }];
  if (field === 'update_info') {
    problems.push({ type: 'list_type', loc, msg: 'Input should be a valid list', input: info });
  }
  throw invalid(core.profile, problems);
}

const init: Handler = (core, request) => {
  const info = infoOf(core, request, 'init_info');
  return core.utility(async () => {
    requireConfigured(core);
    const { order, packed } = parseInitInfo(core.profile, info, core.backend);
    await core.workers.join(order);
    core.joined = true;
    core.packedAtInit = packed;
    return message('Weight transfer initialized');
  });
};

const start: Handler = (core, request) => {
  if (core.profile.startBody === 'required') {
    looseObject(core, request);
  }
  return core.utility(() => {
    requireConfigured(core);
    core.session = inPlace(core, started(core.session));
    return message('Weight update started');
  });
};

/** The sparse backend's start and finish do nothing, and it changes parameters where they are: no layer is ever stripped. */
function inPlace(core: Core, next: Session): Session {
  return core.backend === 'sparse_nccl' ? { ...next, stripped: core.session.stripped } : next;
}

/** One order a worker: from 0.29 on update_info may be a list of them. */
function ordersOf(core: Core, info: unknown): readonly ReceiveOrder[] {
  const parse = (item: unknown): ReceiveOrder => {
    if (core.backend === 'sparse_nccl') return parseSparseInfo(item);
    const order = parseUpdateInfo(core.profile, item, core.packedAtInit);
    const previous = core.profile.reusesMetadata && order.names.length === 0 ? core.previousOrder : null;
    return previous ?? order;
  };
  if (core.profile.updateInfoLists && Array.isArray(info)) {
    return Array.from({ length: core.workers.size }, (_, rank) => parse(info[rank]));
  }
  const order = parse(info);
  return Array.from({ length: core.workers.size }, () => order);
}

const update: Handler = (core, request) => {
  const info = infoOf(core, request, 'update_info');
  return core.utility(async () => {
    requireConfigured(core);
    requireOpen(core.profile, core.session);
    let touched = false;
    try {
      const orders = ordersOf(core, info);
      touched = true;
      if (!core.joined) {
        throw new WorkerError('NCCL weight transfer not initialized. Call init_transfer_engine() first.');
      }
      await core.workers.receive(orders);
      core.previousOrder = orders[0] ?? null;
      core.session = inPlace(core, updateReceived(core.profile, core.session));
    } catch (error) {
      core.session = inPlace(core, updateFailed(core.profile, core.session, touched));
      throw error;
    }
    return message('Weights updated');
  });
};

const finish: Handler = (core, request) => {
  let version: string | null = null;
  if (core.profile.weightVersion) {
    const body = typedBody(core.profile, request);
    if (body === null && request.text !== '' && request.contentType === 'application/json') {
      throw missing(core.profile, 'weight_version', null);
    }
    const given = body?.weight_version ?? null;
    version = given === null ? null : requireString(core, 'weight_version', given);
  }
  return core.utility(() => {
    requireConfigured(core);
    core.session = inPlace(core, finished(core.profile, core.session));
    core.weightVersion = version ?? core.weightVersion;
    return message('Weight update finished');
  });
};

const startDraft: Handler = (core) =>
  core.utility((): Answer => {
    requireConfigured(core);
    throw new WorkerError('Draft model weight update requested, but no draft model is configured.');
  });

const shutdown: Handler = (core) =>
  core.utility(async () => {
    if (core.session.active) {
      throw new WorkerError('Cannot release a trainer connection during a weight update');
    }
    await core.workers.leave();
    core.joined = false;
    return message('Weight transfer shut down');
  });

async function reload(core: Core, args: readonly unknown[], kwargs: JsonObject): Promise<void> {
  const known = ['weights_iterator', 'weights_path', 'is_checkpoint_format'];
  const unknown = Object.keys(kwargs).find((key) => !known.includes(key));
  if (unknown !== undefined) {
    throw new WorkerError(`GPUModelRunner.reload_weights() got an unexpected keyword argument '${unknown}'`);
  }
  const path = kwargs.weights_path ?? args[1] ?? core.path;
  try {
    await core.workers.load(String(path));
    core.path = String(path);
    core.session = reloaded(core.session);
  } catch (error) {
    core.session = reloadFailed(core.session);
    throw error;
  }
}

const collectiveRpc: Handler = (core, request) => {
  const parsed = parseJson(request.text);
  if (parsed === null) {
    const { message: text, offset } = jsonProblem(request.text);
    throw new Refusal(badRequest(`JSON decode error: ${text}: line 1 column ${offset + 1} (char ${offset})`));
  }
  const body = isObject(parsed.value) ? parsed.value : {};
  const method = body.method;
  if (typeof method !== 'string') {
    throw new Refusal(badRequest("Missing 'method' in request body"));
  }
  const args = Array.isArray(body.args) ? (body.args as unknown[]) : [];
  const kwargs = isObject(body.kwargs) ? body.kwargs : {};
  const workers = Array.from({ length: core.workers.size }, () => null);
  return core.utility(async () => {
    switch (method) {
      case 'reload_weights':
        await reload(core, args, kwargs);
        return json({ results: workers });
      case 'list_loras':
        return json({ results: workers.map(() => [...core.loras.keys()].map((_, index) => index + 1)) });
      default:
        throw new WorkerError(
          core.profile.workerErrors === 'bare'
            ? `Method '${method}' is not implemented.`
            : `'CPUWorker' object has no attribute '${method}'`,
        );
    }
  });
};

/** What of it is asked for: the real one also tells the model, the environment and the system. */
const serverInfo: Handler = (core) => {
  const backend = core.options.weightTransfer === false ? null : { backend: core.backend };
  return json({ vllm_config: { weight_transfer_config: backend } });
};

export const TRANSFER: Readonly<Record<string, Handler>> = {
  'POST /init_weight_transfer_engine': init,
  'POST /start_weight_update': start,
  'POST /start_draft_weight_update': startDraft,
  'POST /update_weights': update,
  'POST /finish_weight_update': finish,
  'POST /shutdown_weight_transfer_engine': shutdown,
  'POST /collective_rpc': collectiveRpc,
  'GET /server_info': serverInfo,
};
