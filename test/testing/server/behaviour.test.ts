import { describe, expect, it } from 'vitest';
import { Core } from '../../../src/testing/server/core.js';
import { dispatcher } from '../../../src/testing/server/dispatch.js';
import { profileOf, VLLM_VERSIONS, type VllmVersion } from '../../../src/testing/server/profile.js';
import type { Answer } from '../../../src/testing/server/replies.js';
import { FakeWorkers } from './fake-workers.js';

const THREE_STEP = VLLM_VERSIONS.filter((version) => profileOf(version).rounds === 'three-step');
const ONE_SHOT = VLLM_VERSIONS.filter((version) => profileOf(version).rounds === 'one-shot');
const RESTORING = VLLM_VERSIONS.filter((version) => profileOf(version).emptyRoundRestores);
const QUEUEING = VLLM_VERSIONS.filter((version) => !profileOf(version).refusesWhilePaused);

interface Choice {
  readonly text: string;
  readonly finish_reason: string;
  readonly prompt_logprobs: readonly (Record<string, { logprob: number }> | null)[] | null;
  readonly weight_versions?: unknown;
}

class Engine {
  readonly workers: FakeWorkers;
  readonly core: Core;
  readonly #ask: ReturnType<typeof dispatcher>;
  died = false;

  constructor(version: VllmVersion, options: { size?: number; tokenMs?: number } = {}) {
    this.workers = new FakeWorkers(options.size);
    this.core = new Core(
      {
        profile: profileOf(version),
        servedModelName: 'tiny',
        model: '/models/m1',
        weightTransfer: true,
        tokenMs: options.tokenMs ?? 0,
        maxModelLen: 512,
      },
      this.workers,
      () => {
        this.died = true;
      },
    );
    this.#ask = dispatcher(this.core, { apiKey: null, devMode: true, loraUpdating: true });
  }

  ask(
    method: string,
    target: string,
    body?: unknown,
    signal = new AbortController().signal,
  ): Promise<Answer> {
    const url = new URL(target, 'http://engine');
    return this.#ask(
      {
        method,
        path: url.pathname,
        query: url.searchParams,
        contentType: 'application/json',
        authorization: null,
        text: body === undefined ? '' : JSON.stringify(body),
      },
      signal,
    );
  }

  post = (target: string, body: unknown = {}): Promise<Answer> => this.ask('POST', target, body);

  get = (target: string): Promise<Answer> => this.ask('GET', target);

  complete(options: Record<string, unknown> = {}): Promise<Answer> {
    return this.post('/v1/completions', { model: 'tiny', prompt: [5, 17, 40], max_tokens: 1, ...options });
  }

  async scores(): Promise<number[]> {
    const [choice] = choices(await this.complete({ prompt_logprobs: 1 }));
    return (choice?.prompt_logprobs ?? []).flatMap((entry, index) =>
      entry === null ? [] : [entry[String([5, 17, 40][index])]?.logprob ?? Number.NaN],
    );
  }

  init = (): Promise<Answer> =>
    this.post('/init_weight_transfer_engine', {
      init_info: { master_address: '127.0.0.1', master_port: 1, rank_offset: 1, world_size: 2 },
    });

  update = (names: readonly string[] = ['a']): Promise<Answer> =>
    this.post('/update_weights', {
      update_info: {
        names,
        dtype_names: names.map(() => 'bfloat16'),
        shapes: names.map(() => [2]),
      },
    });
}

const choices = (answer: Answer): readonly Choice[] => (answer.body as { choices: Choice[] }).choices;

const settled = async (promise: Promise<unknown>): Promise<boolean> => {
  const marker = Symbol();
  // A macrotask: whatever could already be answered has been.
  const later = new Promise((resolve) => setTimeout(resolve, 20, marker));
  return (await Promise.race([promise, later])) !== marker;
};

describe('an update session', () => {
  it.each(THREE_STEP)('of vLLM %s serves the new weights after start, update and finish', async (version) => {
    const engine = new Engine(version);
    const before = await engine.scores();
    await engine.init();
    expect((await engine.post('/pause?mode=keep&clear_cache=true')).status).toBe(200);
    expect((await engine.post('/start_weight_update')).status).toBe(200);
    expect((await engine.update()).status).toBe(200);
    expect((await engine.update(['b'])).status).toBe(200);
    expect((await engine.post('/finish_weight_update')).status).toBe(200);
    await engine.post('/resume');
    expect(await engine.scores()).not.toEqual(before);
    expect(engine.died).toBe(false);
  });

  it.each(ONE_SHOT)('of vLLM %s is one update', async (version) => {
    const engine = new Engine(version);
    const before = await engine.scores();
    await engine.init();
    await engine.post('/pause');
    expect((await engine.update()).status).toBe(200);
    await engine.post('/resume');
    expect(await engine.scores()).not.toEqual(before);
  });

  it.each(ONE_SHOT)('of vLLM %s whose lists are refused leaves the engine as it was', async (version) => {
    const engine = new Engine(version);
    await engine.init();
    const before = await engine.scores();
    const refused = await engine.post('/update_weights', { update_info: { names: ['a'] } });
    expect(refused.status).toBe(500);
    expect(await engine.scores()).toEqual(before);
  });

  it.each(THREE_STEP)('of vLLM %s that is open kills the engine at the next request', async (version) => {
    const engine = new Engine(version);
    await engine.post('/start_weight_update');
    expect((await engine.get('/health')).status).toBe(200);
    const answer = await engine.complete();
    expect(answer.status).toBe(500);
    expect(answer.body).toMatchObject({ error: { message: profileOf(version).deadMessage } });
    expect(engine.died).toBe(true);
    expect((await engine.get('/health')).status).toBe(503);
    expect((await engine.post('/pause')).body).toEqual({
      error: `Failed to pause generation: ${profileOf(version).deadMessage}`,
    });
    expect((await engine.post('/collective_rpc', { method: 'reload_weights' })).status).toBe(500);
  });

  it.each(VLLM_VERSIONS)('of vLLM %s that failed kills the engine at the next request', async (version) => {
    const engine = new Engine(version);
    await engine.init();
    await engine.post('/start_weight_update');
    engine.workers.receiveFails = 'NCCL error: remote process exited or there was a network error';
    expect((await engine.update()).status).toBe(500);
    expect((await engine.get('/health')).status).toBe(200);
    expect((await engine.get('/is_paused')).status).toBe(200);
    expect((await engine.complete()).status).toBe(500);
    expect(engine.died).toBe(true);
  });

  it.each(RESTORING)('of vLLM %s that failed is restored by start and finish', async (version) => {
    const engine = new Engine(version);
    const before = await engine.scores();
    await engine.post('/start_weight_update');
    expect((await engine.update()).status).toBe(500);
    expect((await engine.post('/finish_weight_update')).status).toBe(500);
    expect((await engine.post('/start_weight_update')).status).toBe(200);
    expect((await engine.post('/finish_weight_update')).status).toBe(200);
    expect(await engine.scores()).toEqual(before);
  });

  it('of vLLM 0.22.1 stays open after a failure, and a finish does not restore it', async () => {
    const engine = new Engine('0.22.1');
    await engine.post('/start_weight_update');
    expect((await engine.update()).status).toBe(500);
    expect((await engine.post('/start_weight_update')).status).toBe(500);
    expect((await engine.post('/finish_weight_update')).status).toBe(200);
    expect((await engine.complete()).status).toBe(500);
  });

  it.each(VLLM_VERSIONS)(
    'of vLLM %s that failed is healed by a good directory, not by a bad one',
    async (version) => {
      const engine = new Engine(version);
      await engine.init();
      await engine.post('/pause');
      await engine.post('/start_weight_update');
      engine.workers.receiveFails = 'NCCL error: unhandled system error';
      await engine.update();
      const reload = (path: string): Promise<Answer> =>
        engine.post('/collective_rpc', { method: 'reload_weights', kwargs: { weights_path: path } });
      expect((await reload('/nonexistent/dir')).status).toBe(500);
      expect((await reload('/models/m2')).body).toEqual({ results: [null] });
      await engine.post('/resume');
      expect((await engine.complete()).status).toBe(200);
      expect(engine.workers.weights).toBe('/models/m2');
    },
  );

  it('in another format than the checkpoint is refused', async () => {
    const engine = new Engine('0.20.2');
    await engine.init();
    const lists = { names: [], dtype_names: [], shapes: [] };
    const answer = await engine.post('/update_weights', {
      update_info: { ...lists, is_checkpoint_format: false },
    });
    expect(JSON.stringify(answer.body)).toContain('checkpoint format only');
    expect(engine.workers.calls).toEqual(['join']);
  });

  it('of vLLM 0.33.0 takes empty lists for the previous lists, of 0.32.0 for no tensors', async () => {
    for (const [version, expected] of [
      ['0.33.0', 'receive a+b'],
      ['0.32.0', 'receive '],
    ] as const) {
      const engine = new Engine(version);
      await engine.init();
      await engine.post('/start_weight_update');
      await engine.update(['a', 'b']);
      await engine.update([]);
      expect(engine.workers.calls.at(-1)).toBe(expected);
    }
  });

  it('takes one update_info a worker from 0.29 on', async () => {
    const engine = new Engine('0.30.0', { size: 2 });
    await engine.init();
    await engine.post('/start_weight_update');
    const info = (name: string): unknown => ({ names: [name], dtype_names: ['uint8'], shapes: [[1]] });
    expect((await engine.post('/update_weights', { update_info: [info('x'), info('y')] })).status).toBe(200);
    expect(engine.workers.calls.at(-1)).toBe('receive x y');
  });

  it('sets the weight version at finish from 0.27 on', async () => {
    const engine = new Engine('0.27.1');
    await engine.post('/start_weight_update');
    await engine.post('/finish_weight_update', { weight_version: 'step-7' });
    expect((await engine.get('/weight_info')).body).toEqual({ weight_version: 'step-7' });
  });
});

describe('a receive that is going on', () => {
  it('holds what asks the core, and nothing else', async () => {
    const engine = new Engine('0.32.0');
    await engine.init();
    await engine.post('/start_weight_update');
    let release: () => void = () => undefined;
    engine.workers.gate = new Promise((resolve) => {
      release = resolve;
    });
    const update = engine.update();
    const held = [engine.post('/pause'), engine.post('/resume'), engine.get('/is_paused'), engine.complete()];
    for (const target of ['/health', '/version', '/v1/models', '/get_world_size', '/metrics']) {
      expect((await engine.get(target)).status).toBe(200);
    }
    expect(await settled(Promise.race([update, ...held]))).toBe(false);
    release();
    expect((await update).status).toBe(200);
    await Promise.all(held);
  });
});

describe('a paused engine', () => {
  it.each(QUEUEING)('of vLLM %s queues new requests until it is resumed', async (version) => {
    const engine = new Engine(version);
    await engine.post('/pause?mode=abort');
    expect((await engine.post('/pause?mode=wait')).status).toBe(200);
    const request = engine.complete();
    expect(await settled(request)).toBe(false);
    await engine.post('/resume');
    expect((await request).status).toBe(200);
  });

  it('of vLLM 0.33.0 refuses new requests, and queues them in a keep pause', async () => {
    const engine = new Engine('0.33.0');
    for (const mode of ['abort', 'wait']) {
      await engine.post(`/pause?mode=${mode}`);
      expect((await engine.complete()).status).toBe(503);
    }
    await engine.post('/pause?mode=keep');
    const request = engine.complete();
    expect(await settled(request)).toBe(false);
    await engine.post('/resume');
    expect((await request).status).toBe(200);
  });

  it('ended running requests with their partial text: abort', async () => {
    const engine = new Engine('0.32.0', { tokenMs: 2 });
    const request = engine.complete({ max_tokens: 400 });
    await until(() => engine.core.scheduler.running === 1);
    await engine.post('/pause?mode=abort');
    const [choice] = choices(await request);
    expect(choice?.finish_reason).toBe('abort');
    expect(engine.core.scheduler.running).toBe(0);
  });

  it('let running requests end first: wait', async () => {
    const engine = new Engine('0.32.0', { tokenMs: 1 });
    const request = engine.complete({ max_tokens: 30 });
    await until(() => engine.core.scheduler.running === 1);
    let done = false;
    void request.then(() => {
      done = true;
    });
    await engine.post('/pause?mode=wait');
    expect(done || engine.core.scheduler.running === 0).toBe(true);
    expect(choices(await request)[0]?.finish_reason).toBe('length');
  });

  it('freezes running requests, which go on under the new weights: keep', async () => {
    const engine = new Engine('0.33.0', { tokenMs: 1 });
    const alone = choices(await engine.complete({ max_tokens: 60 }))[0]?.text ?? '';
    const request = engine.complete({ max_tokens: 60, return_weight_versions: true });
    await until(() => engine.core.scheduler.running === 1);
    await engine.post('/pause?mode=keep&clear_cache=true');
    expect((await engine.post('/reset_prefix_cache')).body).toEqual({ success: false });
    expect((await engine.get('/is_paused')).body).toEqual({ is_paused: true });
    await engine.post('/collective_rpc', { method: 'reload_weights', args: [null, '/models/m2'] });
    await engine.post('/update_weight_version', { new_version: 'B' });
    expect(await settled(request)).toBe(false);
    await engine.post('/resume');
    const [choice] = choices(await request);
    expect(choice?.finish_reason).toBe('length');
    expect(choice?.text).not.toBe(alone);
    expect(choice?.weight_versions).toMatchObject([
      { version: 'default', start: 0 },
      { version: 'B', end: 60 },
    ]);
  });

  it('of vLLM 0.16.0 does not show a keep pause', async () => {
    const engine = new Engine('0.16.0');
    await engine.post('/pause?mode=keep');
    expect((await engine.get('/is_paused')).body).toEqual({ is_paused: false });
  });
});

describe('the prefix cache', () => {
  it.each(VLLM_VERSIONS)('of vLLM %s is stale after a reload until it is reset', async (version) => {
    const engine = new Engine(version);
    const before = await engine.scores();
    await engine.post('/collective_rpc', { method: 'reload_weights', args: [null, '/models/m2'] });
    expect(await engine.scores()).toEqual(before);
    await engine.post('/reset_prefix_cache');
    expect(await engine.scores()).not.toEqual(before);
  });

  it('is cleared by a pause that says so', async () => {
    const engine = new Engine('0.32.0');
    const before = await engine.scores();
    await engine.post('/collective_rpc', { method: 'reload_weights', args: [null, '/models/m2'] });
    await engine.post('/pause?mode=keep&clear_cache=false');
    await engine.post('/resume');
    expect(await engine.scores()).toEqual(before);
    await engine.post('/pause?mode=keep&clear_cache=true');
    await engine.post('/resume');
    expect(await engine.scores()).not.toEqual(before);
  });
});

it('ends a request whose client went away', async () => {
  const engine = new Engine('0.32.0', { tokenMs: 1 });
  const client = new AbortController();
  const request = engine.ask('POST', '/v1/completions', { prompt: [1], max_tokens: 500 }, client.signal);
  await until(() => engine.core.scheduler.running === 1);
  client.abort();
  expect(choices(await request)[0]?.finish_reason).toBe('abort');
});

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 5000;
  while (!condition()) {
    expect(Date.now()).toBeLessThan(deadline);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}
