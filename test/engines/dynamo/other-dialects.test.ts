/** The sidecar and SGLang: what they are sent and how they are read, from contracts/dynamo.md 1.7 to 1.9. */
import { describe, expect, it } from 'vitest';
import type { Exchange, Reply } from '../../../src/engines/admin.js';
import { noted, replyOf } from './recordings.js';
import { adminOf, seat, update } from './workers.js';

const said = (body: unknown, status = 200): Reply => ({
  status,
  contentType: 'text/plain; charset=utf-8',
  text: JSON.stringify(body),
  json: body,
});
const line = (exchange: Exchange<unknown> | null) =>
  exchange && [exchange.method, exchange.path, exchange.body];

describe('the native sidecar', () => {
  const admin = adminOf('sidecar');

  it('is paused by a mode that is always said, since its own default is abort', () => {
    const pause = admin.pause({ mode: 'keep', clearCache: true });
    expect(line(pause)).toEqual([
      'POST',
      '/engine/control/pause_generation',
      { mode: 'keep', clear_cache: true },
    ]);
    expect(pause.read(said({ status: 'paused' }))).toBeUndefined();
    expect(() => pause.read(said({ status: 'ok' }))).toThrow('"status":"paused"');
    expect(() => pause.read(said({ status: 'error', message: 'unsupported engine control: x' }))).toThrow(
      'unsupported engine control: x',
    );
    expect(admin.resume().read(said({ status: 'resumed', is_sleeping: true }))).toBeUndefined();
    expect(admin.isPaused()?.read(said({ is_paused: true }))).toBe(true);
  });

  it("receives by vLLM's own bodies, each sent once", () => {
    const calls = [
      admin.initBroadcaster(seat),
      admin.startUpdate(),
      admin.updateWeights(update),
      admin.finishUpdate({ weightVersion: '7' }),
    ];
    expect(calls.map((call) => call?.path)).toEqual([
      '/engine/update/init_weight_transfer_engine',
      '/engine/update/start_weight_update',
      '/engine/update/update_weights',
      '/engine/update/finish_weight_update',
    ]);
    expect(calls[0]?.body).toMatchObject({ init_info: { rank_offset: 3, world_size: 5, packed: true } });
    expect(calls[2]?.body).toMatchObject({ update_info: { names: ['w'] } });
    expect(calls[3]?.body).toEqual({ weight_version: '7' });
    for (const call of calls) {
      expect(call?.retryable).toBe(false);
      expect(call?.read(said({ message: 'done' }))).toBeUndefined();
    }
    expect(admin.capabilities).toMatchObject({ wire: 'vllm', diskLoad: false, rounds: 'three-step' });
    expect(admin.reloadFromDisk('/a', { weightVersion: '7' })).toBeNull();
  });

  it('says and takes its version', () => {
    expect(admin.weightVersion()?.read(said({ weight_version: 'default' }))).toBe('default');
    const set = admin.setWeightVersion('7');
    expect(line(set)).toEqual(['POST', '/engine/update/update_weight_version', { new_version: '7' }]);
    expect(set?.read(said({ success: true, new_version: '7' }))).toBeUndefined();
  });

  it('has adapters by /v1/loras', () => {
    const load = admin.loadLoraAdapter({ name: 'b', path: '/models/loraB' });
    const loaded = noted('REST load b');
    expect(line(load)).toEqual(['POST', '/v1/loras', loaded.request]);
    expect(load.read(replyOf(loaded))).toBeUndefined();
    const unload = admin.unloadLoraAdapter({ name: 'b' });
    const unloaded = noted('REST delete b');
    expect(line(unload)).toEqual(['DELETE', '/v1/loras/b', null]);
    expect(unload.read(replyOf(unloaded))).toBeUndefined();
    const unknown = noted('REST delete unknown');
    expect(() => unload.read(replyOf(unknown))).toThrow("LoRA adapter 'qq' not found");
    expect(admin.unloadLoraAdapter({ name: 'a/b' }).path).toBe('/v1/loras/a%2Fb');
  });
});

describe('SGLang', () => {
  const admin = adminOf('sglang');

  it('freezes requests, and computes them again where caches are to be cleared', () => {
    const mode = (pause: Exchange<void>) => (pause.body as { mode: string }).mode;
    expect(mode(admin.pause({ mode: 'keep', clearCache: false }))).toBe('in_place');
    expect(mode(admin.pause({ mode: 'keep', clearCache: true }))).toBe('retract');
    expect(mode(admin.pause({ mode: 'abort', clearCache: true }))).toBe('abort');
    expect(() => admin.pause({ mode: 'wait', clearCache: true })).toThrow('SGLang has no pause that waits');
    expect(admin.resume().path).toBe('/engine/continue_generation');
  });

  it('drops the prefixes of the old weights with the load, unless requests are frozen with them', () => {
    const flushes = (clearCache: boolean) => {
      admin.pause({ mode: 'keep', clearCache });
      const load = admin.reloadFromDisk('/ckpt/step_7', { weightVersion: '7' });
      return (load?.body as { flush_cache?: boolean } | undefined)?.flush_cache;
    };
    expect(flushes(true)).toBe(true);
    expect(flushes(false)).toBe(false);
  });

  it('loads from a directory with its tag', () => {
    admin.pause({ mode: 'abort', clearCache: true });
    const load = admin.reloadFromDisk('/ckpt/step_7', { weightVersion: null });
    expect(line(load)).toEqual([
      'POST',
      '/engine/control/update_weights_from_disk',
      { model_path: '/ckpt/step_7', weight_version: 'step_7', flush_cache: true },
    ]);
    expect(load?.read(said({ success: true, message: 'Succeeded', num_paused_requests: 0 }))).toBeNull();
    expect(() => load?.read(said({ success: false, message: 'bad path' }))).toThrow('bad path');
    expect(() => load?.read(said({ message: 'no word of success' }))).toThrow('expected success');
    expect(admin.resetPrefixCache({ resetRunningRequests: false })?.read(said({ status: 'ok' }))).toBeNull();
    expect(line(admin.setWeightVersion('7'))?.[2]).toEqual({ new_version: '7', abort_all_requests: false });
  });

  it('is no member of a group', () => {
    expect(admin.capabilities.wire).toBeNull();
    expect(() => admin.initBroadcaster(seat)).toThrow('it does not receive by NCCL');
    expect(() => admin.updateWeights(update)).toThrow('it does not receive by NCCL');
    expect([admin.startUpdate(), admin.finishUpdate({ weightVersion: null }), admin.isPaused()]).toEqual([
      null,
      null,
      null,
    ]);
  });
});
