/** Health, pause, caches: the handlers that every version has. */
import type { Core } from './core.js';
import { type Answer, badRequest, empty, json, serverError, workerFailure } from './replies.js';
import { hasBytes } from './session.js';
import {
  choice,
  invalid,
  isObject,
  looseBody,
  missing,
  queryChoice,
  queryFlag,
  Refusal,
  type Request,
  typedBody,
} from './validation.js';

export type Handler = (core: Core, request: Request, signal: AbortSignal) => Answer | Promise<Answer>;

const text = (body: string, contentType: string): Answer => ({ status: 200, contentType, body });

const health: Handler = (core) => empty(core.dead ? 503 : 200);

const version: Handler = (core) => json({ version: core.profile.version });

const worldSize: Handler = (core) => json({ world_size: core.workers.size });

const metrics: Handler = (core) => {
  const label = `{engine="0",model_name="${core.options.servedModelName}"}`;
  const lines = [
    '# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.',
    '# TYPE process_start_time_seconds gauge',
    `process_start_time_seconds ${core.startedAt}`,
    '# TYPE vllm:num_requests_running gauge',
    `vllm:num_requests_running${label} ${core.scheduler.running}.0`,
    '# TYPE vllm:num_requests_waiting gauge',
    `vllm:num_requests_waiting${label} ${core.scheduler.waiting}.0`,
  ];
  return text(`${lines.join('\n')}\n`, 'text/plain; version=1.0.0; charset=utf-8');
};

/** These handlers catch what the engine raises and answer with a bare string. */
async function caught(verb: string, task: () => Promise<Answer>): Promise<Answer> {
  try {
    return await task();
  } catch (error) {
    const body = error instanceof Refusal ? error.answer.body : null;
    const raised = isObject(body) && isObject(body.error) ? body.error.message : null;
    if (raised === null || (error as Refusal).answer.status !== 500) {
      throw error;
    }
    return json({ error: `Failed to ${verb}: ${raised}` }, 500);
  }
}

const pause: Handler = (core, request) => {
  const asked = queryChoice(core.profile, request, 'mode', ['abort', 'wait', 'keep'], 'abort');
  const clearCache = queryFlag(core.profile, request, 'clear_cache', true);
  // Deprecated spelling of mode=wait; 0.32 dropped it and ignores it.
  const wait =
    !core.profile.typedBodies && queryFlag(core.profile, request, 'wait_for_inflight_requests', false);
  return caught('pause generation', async () => {
    core.requireAlive();
    await core.scheduler.pause(wait ? 'wait' : asked);
    if (clearCache) {
      await core.utility(() => core.resetPrefixCache(true));
    }
    return json({ status: 'paused' });
  });
};

const resume: Handler = (core) =>
  caught('resume generation', async () => {
    core.requireAlive();
    await core.scheduler.resume();
    return json({ status: 'resumed' });
  });

const paused = (core: Core): boolean =>
  core.scheduler.mode !== null && (core.scheduler.mode !== 'keep' || core.profile.keepShowsPaused);

const isPaused: Handler = (core) =>
  caught('fetch pause status', () => core.utility(() => json({ is_paused: paused(core) })));

/** 0.16 pauses in the front end, so its engine never looks asleep. */
const isSleeping: Handler = (core) =>
  core.utility(() => json({ is_sleeping: core.profile.keepShowsPaused && paused(core) }));

const resetPrefixCache: Handler = (core, request) => {
  const running = queryFlag(core.profile, request, 'reset_running_requests', false);
  queryFlag(core.profile, request, 'reset_external', false);
  return core.utility(() => {
    const success = core.resetPrefixCache(running);
    return core.profile.resetSaysSuccess ? json({ success }) : empty();
  });
};

const resetOther: Handler = (core) => core.utility(() => empty());

const weightInfo: Handler = (core) => json({ weight_version: core.weightVersion });

const updateWeightVersion: Handler = (core, request) => {
  const body = typedBody(core.profile, request);
  const version = body?.new_version;
  if (version === undefined) {
    throw missing(core.profile, 'new_version', null);
  }
  core.weightVersion = requireString(core, 'new_version', version);
  return json({ success: true, new_version: core.weightVersion });
};

export function requireString(core: Core, field: string, value: unknown): string {
  if (typeof value !== 'string') {
    throw invalid(core.profile, [
      { type: 'string_type', loc: ['body', field], msg: 'Input should be a valid string', input: value },
    ]);
  }
  return value;
}

const abortRequests: Handler = (core, request) => {
  const body = looseBody(request);
  const ids = isObject(body) ? body.request_ids : undefined;
  // vLLM counts the ids that it was given, known or not.
  const named = Array.isArray(ids) && ids.length > 0;
  return core.utility(() =>
    json({ status: 'aborted', aborted: named ? ids.length : core.scheduler.abortAll() }),
  );
};

const weightChecker: Handler = async (core, request) => {
  const body = typedBody(core.profile, request);
  if (body?.action === undefined) {
    throw missing(core.profile, 'action', null);
  }
  const action = choice(core.profile, ['body', 'action'], body.action, ['checksum', 'reset', 'compare']);
  if (action === 'reset') {
    throw new Refusal(serverError(core.profile, 'a reference engine does not zero its weights'));
  }
  const baseline = body.baseline;
  if (action === 'compare' && !isObject(baseline)) {
    throw new Refusal(badRequest("action='compare' requires a 'baseline' object"));
  }
  const perWorker = await core.utility(() => {
    if (!hasBytes(core.session)) {
      const text = 'Cannot copy out of meta tensor; no data!';
      throw new Refusal(workerFailure(core.profile, text, 'compute_weight_checksums'));
    }
    return core.workers.checksums();
  });
  const checksums = Object.fromEntries(
    perWorker.flatMap((sums, rank) =>
      [...sums].map(([name, sum]) => [`dp0:pp0:pcp0:tp${rank}:${name}`, sum] as const),
    ),
  );
  if (!isObject(baseline)) {
    return json({ checksums });
  }
  const names = new Set([...Object.keys(checksums), ...Object.keys(baseline)]);
  const mismatches = [...names].filter((name) => checksums[name] !== baseline[name]).sort();
  return json({ match: mismatches.length === 0, mismatches });
};

export const ADMIN: Readonly<Record<string, Handler>> = {
  'GET /health': health,
  'GET /ping': health,
  'POST /ping': health,
  'GET /version': version,
  'GET /load': (core) => json({ server_load: core.scheduler.running + core.scheduler.waiting }),
  'GET /metrics': metrics,
  'GET /get_world_size': worldSize,
  'POST /pause': pause,
  'POST /resume': resume,
  'GET /is_paused': isPaused,
  'GET /is_sleeping': isSleeping,
  'POST /reset_prefix_cache': resetPrefixCache,
  'POST /reset_mm_cache': resetOther,
  'POST /reset_encoder_cache': resetOther,
  'GET /weight_info': weightInfo,
  'POST /update_weight_version': updateWeightVersion,
  'POST /abort_requests': abortRequests,
  'POST /weight_checker': weightChecker,
};
