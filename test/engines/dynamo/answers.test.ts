/** What recorded answers of Dynamo 1.6.1 mean: refusals above all, which come with 200. */
import { describe, expect, it } from 'vitest';
import type { Reply } from '../../../src/engines/admin.js';
import { workerMetrics } from '../../../src/engines/dynamo/metrics.js';
import * as read from '../../../src/engines/dynamo/read.js';
import { type ErrorCode, WeightcastError } from '../../../src/errors.js';
import { wasAnswered } from '../../../src/update/restore.js';
import { ALL, noted, replyOf, vectorText } from './recordings.js';
import { adminOf } from './workers.js';

const call = { engine: 'http://worker:9090', operation: 'pause' };
const reply = (status: number, body: unknown): Reply => ({
  status,
  contentType: 'text/plain; charset=utf-8',
  text: JSON.stringify(body) ?? '',
  json: body,
});

function errorOf(act: () => unknown): WeightcastError {
  try {
    act();
  } catch (error) {
    expect(error).toBeInstanceOf(WeightcastError);
    return error as WeightcastError;
  }
  return expect.unreachable('it was taken for a success');
}

const refusal = (note: string) =>
  errorOf(() => read.says('status', 'ok', 'success')(replyOf(noted(note)), call));

describe('every recorded answer', () => {
  const engine = ALL.filter(({ path, status }) => path.startsWith('/engine/') && status !== null);

  it('of an engine route is a success or an error, as its body says', () => {
    expect(engine.length).toBeGreaterThan(150);
    for (const answer of engine) {
      const body = answer.response as { status?: unknown };
      const isSuccess = answer.status === 200 && (body.status === 'ok' || body.status === 'success');
      const act = () => read.says('status', 'ok', 'success')(replyOf(answer), call);
      if (isSuccess) expect(act, answer.note).not.toThrow();
      else expect(wasAnswered(errorOf(act)), answer.note).toBe(true);
    }
  });

  it('of /health is healthy with 200 only', () => {
    const answers = ALL.filter(({ path, status }) => path === '/health' && status !== null);
    expect(answers.map(({ status }) => status)).toContain(503);
    for (const answer of answers) {
      const act = () => read.healthy(replyOf(answer), call);
      if (answer.status === 200) expect(act).not.toThrow();
      else expect(errorOf(act).details).toMatchObject({ status: 503, transient: true });
    }
  });

  it('of /v1/models lists what the frontend serves', () => {
    for (const answer of ALL.filter(({ path, status }) => path === '/v1/models' && status === 200)) {
      expect(Array.isArray(read.models(null)(replyOf(answer), call))).toBe(true);
    }
    expect(() => read.models(null)(replyOf(noted('mocker worker system port')), call)).toThrow(
      WeightcastError,
    );
  });
});

describe('refusals', () => {
  it.each<[string, ErrorCode, string]>([
    ['array body', 'WC_ENGINE_HTTP', 'request body must be a JSON object'],
    ['invalid JSON', 'WC_ENGINE_PROTOCOL', 'key must be a string'],
    ['unknown route', 'WC_ENGINE_NOT_CONFIGURED', 'Route /engine/nope not found'],
    ['disk update unpaused', 'WC_ENGINE_HTTP', 'Worker must be paused'],
    ['bad mode', 'WC_ENGINE_HTTP', "Invalid mode 'zzz'"],
    ['disk: path missing', 'WC_ENGINE_HTTP', "'/nonexistent'"],
    ['dist: extra key', 'WC_ENGINE_NOT_CONFIGURED', "unexpected keyword argument 'foo'"],
    ['dist: unknown rpc', 'WC_ENGINE_NOT_CONFIGURED', "has no attribute 'no_such_rpc'"],
    ['dist: rpc raises', 'WC_ENGINE_HTTP', 'boom from worker'],
    ['update_weights_from_tensor', 'WC_ENGINE_NOT_CONFIGURED', 'is not implemented'],
    ['init: missing args', 'WC_ENGINE_NOT_CONFIGURED', 'missing 4 required positional arguments'],
    ['init: native vllm, not configured', 'WC_ENGINE_NOT_CONFIGURED', 'Weight transfer not configured'],
    ['update/model_taints', 'WC_ENGINE_HTTP', 'Python callback failed'],
    ['update after trainer died', 'WC_ENGINE_HTTP', 'Connection closed by peer'],
    ['missing path', 'WC_ENGINE_HTTP', 'Local LoRA not found'],
  ])('%s', (note, code, words) => {
    const error = refusal(note);
    expect(error.code).toBe(code);
    expect(error.message).toContain(words);
    expect(error.message).not.toContain('collective_rpc');
    expect(error.details.transient).toBe(false);
  });

  it("says --weight-transfer-config where the worker's vLLM lacks it, and rpc= where its methods are others", () => {
    expect(refusal('init: native vllm, not configured').remedy).toContain('--weight-transfer-config');
    expect(refusal('dist: unknown rpc').remedy).toContain('rpc=prime-rl');
    expect(refusal('unknown route').remedy).toContain('--enable-rl');
  });

  it('offers a pause by wait where requests of adapters forbid keep', () => {
    const error = refusal('pause keep with in-flight request on a');
    expect(error.message).toContain('active LoRA requests: a');
    expect(error.details.fallbackPauseMode).toBe('wait');
    expect(refusal('bad mode').details.fallbackPauseMode).toBeUndefined();
  });

  it('offers it too where a worker updates only when drained, and gives up where it asks for a restart', () => {
    const drained = {
      status: 'error',
      message: 'Worker must be drained: pause_generation(mode="wait") first',
    };
    expect(errorOf(() => read.done(reply(200, drained), call)).details.fallbackPauseMode).toBe('wait');
    const fatal = { status: 'error', message: 'the weight state is unknown; this worker requires restart' };
    expect(errorOf(() => read.done(reply(200, fatal), call)).code).toBe('WC_ENGINE_DEAD');
  });

  it('tells where adapters are switched off', () => {
    const load = adminOf('python').loadLoraAdapter({ name: 'a', path: '/a' });
    const error = errorOf(() => load.read(replyOf(noted('unknown route'))));
    expect(error.remedy).toContain('DYN_LORA_ENABLED');
  });

  it('takes success:false for a failure, also where it means that the weights were applied', () => {
    const message = 'Weights were updated, but the cache was not flushed';
    const error = errorOf(() => read.done(reply(200, { success: false, message }), call));
    expect(error.message).toContain(message);
    expect(wasAnswered(error)).toBe(true);
  });

  it.each([
    ['a list', [1]],
    ['a string', 'ok'],
    ['nothing', undefined],
    ['another status', { status: 'maybe' }],
  ])('does not take %s for a success', (_, body) => {
    expect(errorOf(() => read.says('status', 'ok')(reply(200, body), call)).code).toBe('WC_ENGINE_PROTOCOL');
  });
});

describe('whether a worker is paused', () => {
  const paused = (note: string) => read.pausedByRefusal(replyOf(noted(note)), call);

  it('is told by how it refuses an update that names nothing', () => {
    expect(paused('disk: missing model_path')).toBe(true);
    expect(paused('disk update unpaused')).toBe(false);
    expect(adminOf('python').isPaused()).toMatchObject({
      path: '/engine/update_weights_from_disk',
      body: {},
    });
  });

  it('is an error where it answers anything else', () => {
    expect(() => paused('unknown route')).toThrow('Route /engine/nope not found');
    expect(() => paused('bad mode')).toThrow("Invalid mode 'zzz'");
    expect(() => paused('disk: reload_weights default')).toThrow(WeightcastError);
  });
});

describe('the version tag', () => {
  const tag = (body: string) =>
    read.versionTag('version')({ ...reply(200, JSON.parse(body)), text: body }, call);

  it('keeps what was stored, of any type, u64 included', () => {
    expect(read.versionTag('version')(replyOf(noted('big')), call)).toBe('18446744073709551615');
    expect(tag('{"status":"ok","version":7}')).toBe('7');
    expect(tag('{"status":"ok","version":{"step":9}}')).toBe('{"step":9}');
    expect(tag('{"status":"ok","version":"step_1"}')).toBe('step_1');
  });

  it("is 'initial' on an untouched worker, as 1.6 and older ones say it", () => {
    expect(read.versionTag('version')(replyOf(noted('untouched worker')), call)).toBe('initial');
    expect(tag('{"status":"ok","version":"initial"}')).toBe('initial');
  });

  it('is an error where there is none, or an endless one', () => {
    expect(() => tag('{"status":"ok"}')).toThrow('a weight version in version');
    expect(() => tag(`{"status":"ok","version":"${'x'.repeat(2000)}"}`)).toThrow('at most 1024 characters');
  });
});

describe('metrics of the system port', () => {
  const seen = (text: string, status = 200) =>
    workerMetrics({ status, contentType: null, text, json: undefined }, call);

  it('give the id under which the frontend knows the worker', () => {
    const metrics = seen(vectorText('mocker_metrics.txt'));
    expect(metrics).toEqual({ instanceId: 9178742795182842937n, inFlight: 0, sleep: null });
    const listed = noted('frontend, 2 mocker workers', { path: '/health' });
    const instances = (listed.response as { instances: { instance_id: bigint }[] }).instances;
    expect(instances.map((each) => each.instance_id)).toContain(metrics.instanceId);
  });

  it('give nothing where they are something else', () => {
    const nothing = { instanceId: null, inFlight: null, sleep: null };
    expect(seen('')).toEqual(nothing);
    expect(seen(vectorText('mocker_metrics.txt'), 500)).toEqual(nothing);
    expect(seen('dynamo_component_uptime_seconds{worker_id="zz"} 1\n')).toMatchObject({ instanceId: null });
  });

  it.each([
    [{ awake: '1.0', weights_offloaded: '0.0', discard_all: '0.0' }, 'awake'],
    [{ awake: '0.0', weights_offloaded: '1.0', discard_all: '0.0' }, 'asleep'],
    [{ awake: '0.0', weights_offloaded: '0.0', discard_all: '1.0' }, 'emptied'],
    // Level 0: nothing is scheduled, and the cache may be gone.
    [{ awake: '0', weights_offloaded: '0', discard_all: '0' }, 'asleep'],
  ] as const)('say by the gauges %j of its vLLM whether it sleeps: %s', (gauges, sleep) => {
    const lines = (engine: number, values: Readonly<Record<string, string>>) =>
      Object.entries(values).map(
        ([state, value]) =>
          `vllm:engine_sleep_state{engine="${engine}",model_name="tiny",sleep_state="${state}"} ${value}\n`,
      );
    const awake = { awake: '1.0', weights_offloaded: '0.0', discard_all: '0.0' };
    // One of its data-parallel ranks is enough.
    expect(seen([...lines(0, awake), ...lines(1, gauges)].join(''))).toMatchObject({ sleep });
  });

  it('make the number of the process, which the next process does not have', () => {
    const start = adminOf('python').processStart();
    const of = (id: string) =>
      start?.read({
        status: 200,
        contentType: null,
        text: `dynamo_component_uptime_seconds{worker_id="${id}"} 12.5\n`,
        json: undefined,
      });
    expect(of('2040a1fd549dcd2f')).toBe(of('2040a1fd549dcd2f'));
    expect(of('2040a1fd549dcd31')).not.toBe(of('2040a1fd549dcd2f'));
    expect(
      start?.read({ status: 404, contentType: null, text: 'Route not found', json: undefined }),
    ).toBeNull();
  });
});

describe('the models', () => {
  const list = (base: string | null, ...ids: string[]) =>
    read.models(base)(reply(200, { object: 'list', data: ids.map((id) => ({ id, object: 'model' })) }), call);

  it('begin with the base model that discovery named, and the adapters are its children', () => {
    expect(list('tiny', 'a', 'tiny')).toEqual([
      { id: 'tiny', root: null, parent: null },
      { id: 'a', root: null, parent: 'tiny' },
    ]);
  });

  it('stay as they are listed where nobody knows', () => {
    expect(list(null, 'a', 'tiny').map(({ id }) => id)).toEqual(['a', 'tiny']);
    expect(list('gone', 'a').map(({ parent }) => parent)).toEqual([null]);
  });

  it('are asked of the frontend only', () => {
    expect(adminOf('python').listModels()).toMatchObject({ at: 'inference', path: '/v1/models' });
    expect(adminOf('python', { model: 'tiny' }, null).listModels().read(reply(200, {}))).toEqual([
      { id: 'tiny', root: null, parent: null },
    ]);
  });
});
