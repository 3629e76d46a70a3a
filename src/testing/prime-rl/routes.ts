/** The routes of a prime-rl server: its own beside vLLM's open ones (contracts/prime-rl.md 1). */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ADMIN, type Handler } from '../server/admin.js';
import { completions } from '../server/completions.js';
import type { Core } from '../server/core.js';
import { type Dispatch, dispatcher } from '../server/dispatch.js';
import { generate } from '../server/generate.js';
import { MODELS } from '../server/models.js';
import {
  type Answer,
  failure,
  json,
  METHOD_NOT_ALLOWED,
  NOT_FOUND,
  serverError,
  UNAUTHORIZED,
} from '../server/replies.js';
import { type JoinOrder, WorkerError } from '../server/transfer-info.js';
import {
  invalid,
  isObject,
  type JsonObject,
  parseJson,
  Refusal,
  type Request,
} from '../server/validation.js';
import { type PrimeRlRelease, RELEASES, type Release, routesOf } from './releases.js';
import * as worker from './worker-methods.js';

export interface PrimeRlStart {
  readonly release: PrimeRlRelease;
  readonly broadcast: 'nccl' | 'filesystem';
  readonly livenessTimeoutMs: number;
  /** VLLM_SERVER_DEV_MODE: vLLM's routes come first. */
  readonly devMode: boolean;
  /** False hides /openapi.json. */
  readonly documented: boolean;
  /** Routes that this server lacks: those of prime-rl's behind several API servers, for one. */
  readonly missing: readonly string[];
}

type Context = PrimeRlStart & { readonly profile: Release };
type PrimeRlHandler = (core: Core, request: Request, context: Context) => Answer | Promise<Answer>;

/** `await request.json()` and `.get()`: nothing is validated, and what is no JSON is a 500. */
function looseBody(core: Core, request: Request): JsonObject {
  const parsed = parseJson(request.text);
  if (parsed === null)
    throw new Refusal(serverError(core.profile, 'Expecting value: line 1 column 1 (char 0)'));
  if (isObject(parsed.value)) return parsed.value;
  throw new Refusal(serverError(core.profile, "'NoneType' object has no attribute 'get'"));
}

const FREEZE_MS = 20;

const pause: PrimeRlHandler = async (core) => {
  core.requireAlive();
  await core.scheduler.pause('keep');
  await sleep(FREEZE_MS);
  return json({ status: 'paused' });
};

const resume: PrimeRlHandler = async (core) => {
  core.requireAlive();
  await core.scheduler.resume();
  return json({ status: 'resumed' });
};

function integer(body: JsonObject, name: string): number {
  const value = body[name];
  if (typeof value === 'number' && Number.isInteger(value)) return value;
  throw new WorkerError(`unsupported operand type(s) for ${name}: 'NoneType' and 'int'`);
}

/** Ranks are counted from 0 among the workers; the trainer is rank 0 of the group. */
function joinOrder(core: Core, body: JsonObject, { seatedBy }: Release): JoinOrder {
  const { size } = core.workers;
  integer(body, 'timeout');
  const isOld = seatedBy === 'server_rank';
  if (seatedBy === 'gpus_per_server') integer(body, 'gpus_per_server');
  const first = isOld ? integer(body, 'server_rank') * size : integer(body, 'rank_offset');
  const workers = isOld
    ? integer(body, 'num_inference_server') * size
    : integer(body, 'inference_world_size');
  return {
    masterAddress: String(body.host),
    masterPort: integer(body, 'port'),
    uniqueId: null,
    rankOffset: first + 1,
    worldSize: workers + 1,
  };
}

const initBroadcaster: PrimeRlHandler = (core, request, { broadcast, profile }) => {
  const body = looseBody(core, request);
  return core.utility(async () => {
    if (broadcast === 'filesystem') {
      throw new WorkerError(
        'FileSystemWeightUpdateWorker.init_broadcaster() takes 1 positional argument but 8 were given',
      );
    }
    await worker.initBroadcaster(core, joinOrder(core, body, profile));
    return json({ status: 'ok' });
  });
};

const updateWeights: PrimeRlHandler = (core, request, { broadcast, profile }) => {
  const directory = looseBody(core, request).weight_dir;
  return core.utility(async () => {
    await worker.updateWeightsFromPath(core, broadcast === 'nccl' ? null : String(directory));
    if (profile.resetsPrefixCache) core.resetPrefixCache(true);
    return json({ status: 'ok' });
  });
};

const loadLora: PrimeRlHandler = (core, request, { profile }) => {
  const body = looseBody(core, request);
  const [name, path] = [body.lora_name, body.lora_path];
  if (typeof name !== 'string' || typeof path !== 'string') {
    throw invalid(core.profile, [
      {
        type: 'missing',
        loc: ['body', typeof name === 'string' ? 'lora_path' : 'lora_name'],
        msg: 'Field required',
        input: body,
      },
    ]);
  }
  if (name === '' || path === '') {
    throw new Refusal(failure(400, 'InvalidUserInput', "Both 'lora_name' and 'lora_path' must be provided."));
  }
  return core.utility(() => {
    if (!existsSync(join(path, 'adapter_config.json'))) {
      throw new Refusal(
        failure(404, 'NotFoundError', `Loading lora ${name} failed: No adapter found for ${path}`),
      );
    }
    core.loras.set(name, path);
    if (profile.resetsPrefixCache) core.resetPrefixCache(true);
    return json({ status: 'ok' });
  });
};

/** A call that does nothing, behind whatever the core is doing. */
const liveness: PrimeRlHandler = async (core, _, { livenessTimeoutMs }) => {
  const answered = core.utility(() => true).catch(() => false);
  const late = sleep(livenessTimeoutMs, false, { ref: false });
  return (await Promise.race([answered, late]))
    ? json({ status: 'ok' })
    : json({ status: 'engine_unresponsive' }, 503);
};

const OWN: Readonly<Record<string, PrimeRlHandler>> = {
  'POST /pause': pause,
  'POST /resume': resume,
  'POST /init_broadcaster': initBroadcaster,
  'POST /update_weights': updateWeights,
  'POST /load_lora_adapter': loadLora,
  'GET /liveness': liveness,
};

const OPEN: Readonly<Record<string, Handler>> = {
  ...ADMIN,
  ...MODELS,
  'POST /v1/completions': completions,
  'POST /inference/v1/generate': generate,
};

export function primeRlDispatch(core: Core, start: PrimeRlStart, apiKey: string | null): Dispatch {
  const profile = RELEASES[start.release];
  const context: Context = { ...start, profile };
  const own = routesOf(profile).filter((path) => !start.missing.includes(path));
  const shadowing = start.devMode ? dispatcher(core, { apiKey, devMode: true, loraUpdating: true }) : null;
  const listed = [...own, ...(start.devMode ? ['/is_paused', '/collective_rpc'] : [])];
  const description = { openapi: '3.1.0', paths: Object.fromEntries(listed.map((path) => [path, {}])) };
  return async (request, signal) => {
    const { method, path } = request;
    const guarded = profile.guardsAll || path.startsWith('/v1');
    if (apiKey !== null && guarded && request.authorization !== `Bearer ${apiKey}`) return UNAUTHORIZED;
    if (path === '/openapi.json') return start.documented ? json(description) : NOT_FOUND;
    if (shadowing !== null) {
      const answer = await shadowing(request, signal);
      if (answer !== NOT_FOUND) return answer;
    }
    if (!own.includes(path)) return NOT_FOUND;
    const key = `${method} ${path}`;
    const [mine, open] = [OWN[key], OPEN[key]];
    try {
      if (mine !== undefined) return await mine(core, request, context);
      return open === undefined ? METHOD_NOT_ALLOWED : await open(core, request, signal);
    } catch (error) {
      if (error instanceof Refusal) return error.answer;
      return serverError(core.profile, error instanceof Error ? error.message : String(error));
    }
  };
}
