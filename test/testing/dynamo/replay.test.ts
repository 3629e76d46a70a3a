/** The reference worker, asked what the real worker of Dynamo 1.6.1 was asked, in the same order. */
import { mkdirSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { stringifyBigJson } from '../../../src/engines/big-json.js';
import { RouteFaults } from '../../../src/testing/dynamo/faults.js';
import { RlWorker, type RlWorkerOptions } from '../../../src/testing/dynamo/rl-worker.js';
import { HungUp, systemPort } from '../../../src/testing/dynamo/system-port.js';
import { Core } from '../../../src/testing/server/core.js';
import type { Dispatch } from '../../../src/testing/server/dispatch.js';
import { profileOf } from '../../../src/testing/server/profile.js';
import { type Recorded, recordings } from '../../engines/dynamo/recordings.js';
import { FakeWorkers } from '../server/fake-workers.js';

interface Port {
  readonly dispatch: Dispatch;
  readonly core: Core;
  readonly workers: FakeWorkers;
  readonly faults: RouteFaults;
  readonly exits: () => number;
}

function port(options: Partial<RlWorkerOptions & { weightTransfer: boolean; ready: boolean }> = {}): Port {
  const { weightTransfer = false, ready = true, ...rl } = options;
  const workers = new FakeWorkers();
  const core = new Core(
    {
      profile: profileOf('0.30.0'),
      servedModelName: 'tiny',
      model: '/models/model',
      weightTransfer,
      tokenMs: 1,
      maxModelLen: 512,
    },
    workers,
    () => undefined,
  );
  let exits = 0;
  const exit = () => {
    exits += 1;
  };
  const worker = new RlWorker(core, { initTimeoutMs: 30_000, lora: true, loraHotSwap: false, ...rl }, exit);
  const faults = new RouteFaults({});
  const dispatch = systemPort({
    core,
    worker,
    faults,
    ready,
    instanceId: 889013574522070843n,
    namespace: 'curator',
    component: 'backend',
  });
  return { dispatch, core, workers, faults, exits: () => exits };
}

async function ask(
  { dispatch }: Port,
  method: string,
  path: string,
  request: unknown,
): Promise<{ status: number; contentType: string | null; body: string }> {
  const raw = (request as { raw?: unknown } | null)?.raw;
  const text = request === null ? '' : typeof raw === 'string' ? raw : stringifyBigJson(request);
  const answer = await dispatch(
    {
      method,
      path,
      query: new URLSearchParams(),
      contentType: 'application/json',
      authorization: null,
      text,
    },
    new AbortController().signal,
  );
  const { body } = answer;
  return { ...answer, body: typeof body === 'string' ? body : stringifyBigJson(body) };
}

/** What the recorded worker had and the reference does not: another worker extension, a profiler, elastic expert parallelism, taints. */
const OTHER =
  /update_weights_from_path|init_broadcaster|destroy_weights|NcclExt|no_such_rpc|weight_sum|boom|profile|ep_capacity|scale_elastic|model_taints/;
const concerns = ({ path, request, response }: Recorded) =>
  (path.startsWith('/engine/') || path.startsWith('/v1/loras')) &&
  !OTHER.test(path + stringifyBigJson(request) + stringifyBigJson(response));

const text = (response: unknown) => (typeof response === 'string' ? response : stringifyBigJson(response));

/** Adapters lie in a folder here, and their ids are numbers of our own. */
const lorasIn = (folder: string, said: string) => said.replaceAll('/models/', `${folder}/`);
const sameIds = (said: string) => said.replace(/("lora_id":|"[a-d]":)\d+/g, (_, key: string) => `${key}0`);

describe('recorded exchanges of the real worker', () => {
  it('of its engine routes', async () => {
    const worker = port();
    const entries = recordings('engine').filter(concerns);
    expect(entries.length).toBeGreaterThan(35);
    for (const entry of entries) {
      const answer = await ask(worker, entry.method, entry.path, entry.request);
      expect([answer.status, answer.contentType], entry.note).toEqual([entry.status, entry.contentType]);
      // vLLM says why it can't load a path in words of its own, and the recording ends at another version.
      if (/path missing|get_weight_version$/.test(entry.note)) continue;
      expect(JSON.parse(answer.body), entry.note).toEqual(entry.response);
    }
  });

  it('of its adapters', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'weightcast-loras-'));
    for (const name of ['loraA', 'loraB']) mkdirSync(join(folder, name));
    const worker = port();
    for (const entry of recordings('lora').filter(concerns)) {
      const request = JSON.parse(lorasIn(folder, JSON.stringify(entry.request))) as unknown;
      const answer = await ask(worker, entry.method, entry.path, request);
      expect(answer.status, entry.note).toBe(entry.status);
      if (entry.status !== 422) {
        expect(JSON.parse(sameIds(answer.body)), entry.note).toEqual(
          JSON.parse(sameIds(lorasIn(folder, text(entry.response)))),
        );
      }
    }
  });
});

const call = async (worker: Port, route: string, body: object = {}) =>
  JSON.parse((await ask(worker, 'POST', `/engine/${route}`, body)).body) as Record<string, unknown>;
const MUST_BE_PAUSED = expect.stringContaining('Worker must be paused via pause_generation()');

describe('what the real worker was seen to do', () => {
  it('asks for the path only once it is paused: so a call without one tells whether it is', async () => {
    const worker = port();
    expect(await call(worker, 'update_weights_from_disk')).toMatchObject({ message: MUST_BE_PAUSED });
    await call(worker, 'pause_generation', { mode: 'wait' });
    expect(await call(worker, 'update_weights_from_disk')).toMatchObject({
      message: "Missing 'model_path' in body",
    });
    expect(worker.workers.calls).toEqual([]);
  });

  it('answers its version and its liveness while an update blocks, and applies a resume after it whose caller has gone', async () => {
    const worker = port({ weightTransfer: true });
    let finish = () => undefined as unknown;
    worker.workers.gate = new Promise((resolve) => {
      finish = () => resolve();
    });
    await call(worker, 'pause_generation');
    worker.core.joined = true;
    await call(worker, 'update_weights_from_distributed', { engine_rpc: 'start_weight_update' });
    const update_info = { names: ['w'], dtype_names: ['float32'], shapes: [[1]] };
    const update = call(worker, 'update_weights_from_distributed', {
      engine_rpc: 'update_weights',
      update_info,
      weight_version: 'step_2',
    });
    // Nobody waits for this answer any more.
    const resumed = call(worker, 'resume_generation');
    const paused = call(worker, 'update_weights_from_disk');
    expect(await call(worker, 'get_weight_version')).toMatchObject({ version: null });
    expect(await call(worker, 'liveness_probe')).toMatchObject({ alive: true });
    finish();
    expect(await update).toMatchObject({ version: 'step_2', version_declared: true });
    expect(await resumed).toMatchObject({ message: 'Engine resumed' });
    // Asked after it, answered after it: the truth.
    expect(await paused).toMatchObject({ message: MUST_BE_PAUSED });
  });

  it('keeps the old tag when one is left out, and any JSON that is given', async () => {
    const worker = port({ weightTransfer: true });
    await call(worker, 'pause_generation');
    await call(worker, 'set_weight_version', { weight_version: { step: 9 } });
    const started = await call(worker, 'update_weights_from_distributed', {
      engine_rpc: 'start_weight_update',
    });
    expect(started).toMatchObject({ version: 'unknown', version_declared: false });
    expect(await call(worker, 'get_weight_version')).toMatchObject({ version: { step: 9 } });
    const big = await ask(worker, 'POST', '/engine/set_weight_version', {
      raw: '{"weight_version":18446744073709551615}',
    });
    expect(big.body).toContain('18446744073709551615');
  });

  it('refuses to freeze requests that hold an adapter, and waits for them', async () => {
    const worker = port();
    worker.core.loras.set('a', '/models/loraA');
    let finish = () => undefined as unknown;
    const rl = new RlWorker(
      worker.core,
      { initTimeoutMs: 1, lora: true, loraHotSwap: false },
      () => undefined,
    );
    const busy = rl.whileBusy(
      'a',
      () =>
        new Promise((resolve) => {
          finish = () => resolve(null);
        }),
    );
    const pause = (mode: string) => rl.handlers().get('pause_generation')?.({ mode });
    expect(await pause('keep')).toMatchObject({
      message: 'Cannot pause generation in keep mode with active LoRA requests: a',
    });
    expect(await pause('abort')).toMatchObject({ status: 'ok' });
    finish();
    await busy;
    expect(await pause('keep')).toMatchObject({ status: 'ok' });
  });

  it('runs again after sleep and wake_up, though its flag says that it is paused: an update is taken', async () => {
    const worker = port();
    await call(worker, 'pause_generation', { mode: 'wait' });
    await call(worker, 'control/sleep');
    await call(worker, 'control/wake_up');
    expect(worker.core.scheduler.mode).toBeNull();
    expect(
      await call(worker, 'update_weights_from_disk', { model_path: '/models/b', weight_version: 'y' }),
    ).toMatchObject({
      version: 'y',
    });
  });

  it('ends by its watchdog when a group does not come to be, and by nothing before', async () => {
    const worker = port({ weightTransfer: true, initTimeoutMs: 5 });
    let finish = () => undefined as unknown;
    worker.workers.join = () =>
      new Promise((resolve) => {
        finish = () => resolve();
      });
    const init_info = { master_address: '127.0.0.1', master_port: 1, rank_offset: 1, world_size: 2 };
    const init = call(worker, 'init_weights_update_group', {
      engine_rpc: 'init_weight_transfer_engine',
      init_info,
    });
    await expect.poll(worker.exits).toBe(1);
    finish();
    await init;
    expect(worker.exits()).toBe(1);
  });

  it('is not ready before its endpoints are, and says so with 503', async () => {
    const health = await ask(port({ ready: false }), 'GET', '/health', null);
    expect([health.status, (JSON.parse(health.body) as { status: string }).status]).toEqual([
      503,
      'notready',
    ]);
  });
});

describe('faults of a route', () => {
  it('refuse, raise, apply and answer otherwise, hang up, and end', async () => {
    const worker = port();
    worker.faults.replace({ routes: { pause_generation: { refuse: 'no', times: 1 } } });
    expect(await call(worker, 'pause_generation')).toEqual({ status: 'error', message: 'no' });
    expect(await call(worker, 'pause_generation')).toMatchObject({ status: 'ok' });
    worker.faults.replace({ routes: { resume_generation: { raise: 'stub raised' } } });
    const raised = await ask(worker, 'POST', '/engine/resume_generation', {});
    expect([raised.status, JSON.parse(raised.body)]).toEqual([
      500,
      { error: 'Handler error', message: 'Python callback failed: RuntimeError: stub raised' },
    ]);
    worker.faults.replace({
      routes: { resume_generation: { answer: { status: 400, body: { error: 'applied' } } } },
    });
    expect((await ask(worker, 'POST', '/engine/resume_generation', {})).status).toBe(400);
    expect(await call(worker, 'update_weights_from_disk')).toMatchObject({ message: MUST_BE_PAUSED });
    worker.faults.replace({ routes: { pause_generation: { drop: true, matching: 'wait' } } });
    await expect(call(worker, 'pause_generation', { mode: 'wait' })).rejects.toThrow(HungUp);
    expect(await call(worker, 'update_weights_from_disk')).toMatchObject({
      message: "Missing 'model_path' in body",
    });
    expect(await call(worker, 'pause_generation', { mode: 'keep' })).toMatchObject({ status: 'ok' });
  });
});
