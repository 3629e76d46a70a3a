/** What we send, held against what the real worker of Dynamo 1.6.1 took. */
import { describe, expect, it } from 'vitest';
import type {
  EngineAdmin,
  Exchange,
  GroupSeat,
  PauseMode,
  WeightsUpdate,
} from '../../../src/engines/admin.js';
import { stringifyBigJson } from '../../../src/engines/big-json.js';
import { encoded } from '../../../src/engines/json-body.js';
import { ALL, noted, type Recorded, replyOf } from './recordings.js';
import { adminOf, seat, update } from './workers.js';

const success = ({ status, response }: Recorded) =>
  status === 200 && !stringifyBigJson(response).startsWith('{"status":"error"');

/** Recorded successes of exactly this request: line and body. */
function accepted(exchange: Exchange<unknown>, body: unknown = exchange.body): readonly Recorded[] {
  return ALL.filter(
    (entry) =>
      success(entry) &&
      entry.method === exchange.method &&
      entry.path === exchange.path &&
      canonical(entry.request) === canonical(body),
  );
}

const canonical = (value: unknown): string =>
  JSON.stringify(value, (_, each: unknown) =>
    typeof each === 'object' && each !== null && !Array.isArray(each)
      ? Object.fromEntries(Object.entries(each).sort(([a], [b]) => (a < b ? -1 : 1)))
      : each,
  );

/** Reads the first recorded success; fails when the real worker never took this request. */
function replay<T>(exchange: Exchange<T> | null, body?: unknown): T {
  if (exchange === null) return expect.unreachable('the operation is missing');
  const [answer] = accepted(exchange, body === undefined ? exchange.body : body);
  if (answer === undefined) {
    return expect.unreachable(`never taken: ${exchange.method} ${exchange.path} ${canonical(exchange.body)}`);
  }
  return exchange.read(replyOf(answer));
}

describe('the Python worker of Dynamo 1.6.1 took', () => {
  const admin = adminOf('python');

  it('the probes', () => {
    expect(replay(admin.health())).toBeUndefined();
    expect(replay(admin.weightVersion())).toBe('initial');
    expect(replay(admin.listModels())).toEqual([{ id: 'tiny', root: null, parent: null }]);
    expect(admin.listModels().at).toBe('inference');
    expect(admin.worldSize()).toBeNull();
    expect(admin.checksums()).toBeNull();
  });

  it.each(['keep', 'wait', 'abort'] satisfies PauseMode[])('a pause by %s, and resume', (mode) => {
    // clear_cache was recorded as sent, and left out where false.
    const clearCache = mode === 'wait';
    const exchange = admin.pause({ mode, clearCache });
    expect(exchange.body).toEqual({ mode, clear_cache: clearCache });
    expect(exchange.retryable).toBe(true);
    const recorded = mode === 'abort' ? { mode } : exchange.body;
    expect(replay(exchange, recorded)).toBeUndefined();
    expect(replay(admin.resume())).toBeUndefined();
  });

  it('a disk update with its tag, which may be sent again', () => {
    const exchange = admin.reloadFromDisk('/models/modelB', { weightVersion: 'step_1' });
    expect(exchange).toMatchObject({ retryable: true, budget: 'load' });
    expect(exchange?.body).toEqual({
      model_path: '/models/modelB',
      weight_version: 'step_1',
      engine_rpc: 'reload_weights',
    });
    // reload_weights is the default that the recording left out.
    expect(replay(exchange, { model_path: '/models/modelB', weight_version: 'step_1' })).toBeNull();
  });

  it('a tag also where the caller gives none: the directory has a name', () => {
    expect(admin.reloadFromDisk('/ckpt/step_40', { weightVersion: null })?.body).toMatchObject({
      weight_version: 'step_40',
    });
    expect(
      admin.updateWeights({ ...update, weightVersion: null, directory: '/ckpt/step_41' }).body,
    ).toMatchObject({
      weight_version: 'step_41',
    });
  });

  it('the flush of its cache, which does not say whether blocks were kept', () => {
    expect(replay(admin.resetPrefixCache({ resetRunningRequests: false }))).toBeNull();
  });

  it('adapters by file URI, also one that is loaded already', () => {
    const load = admin.loadLoraAdapter({ name: 'a', path: '/models/loraA' });
    expect(load.retryable).toBe(true);
    expect(replay(load)).toBeUndefined();
    expect(replay(admin.loadLoraAdapter({ name: 'a', path: '/models/loraB' }))).toBeUndefined();
    expect(replay(admin.unloadLoraAdapter({ name: 'c' }))).toBeUndefined();
    expect(admin.loadLoraAdapter({ name: 'a b', path: '/x y/ü' }).body).toEqual({
      lora_name: 'a b',
      source: { uri: 'file:///x%20y/%C3%BC' },
    });
  });

  it('a tag that is set by itself', () => {
    expect(admin.setWeightVersion('9')).toMatchObject({
      path: '/engine/set_weight_version',
      body: { weight_version: '9' },
    });
    expect(replay(admin.setWeightVersion('9'), { weight_version: { step: 9 } })).toBeUndefined();
  });
});

describe("the Python worker with vLLM's own weight transfer", () => {
  const admin = adminOf('python');

  it('is asked for worker methods by engine_rpc, and nothing that it receives is sent twice', () => {
    const calls = [
      admin.initBroadcaster(seat),
      admin.startUpdate(),
      admin.updateWeights(update),
      admin.finishUpdate({ weightVersion: '7' }),
    ];
    expect(calls.map((call) => [call?.path, call?.body, call?.retryable])).toEqual([
      [
        '/engine/init_weights_update_group',
        {
          engine_rpc: 'init_weight_transfer_engine',
          init_info: {
            master_address: '10.0.0.1',
            master_port: 29500,
            rank_offset: 3,
            world_size: 5,
            packed: true,
            packed_buffer_size_bytes: 1024,
            packed_num_buffers: 2,
          },
        },
        false,
      ],
      ['/engine/update_weights_from_distributed', { engine_rpc: 'start_weight_update' }, false],
      [
        '/engine/update_weights_from_distributed',
        {
          engine_rpc: 'update_weights',
          update_info: { names: ['w'], dtype_names: ['bfloat16'], shapes: [[2, 3]] },
          weight_version: '7',
        },
        false,
      ],
      [
        '/engine/update_weights_from_distributed',
        { engine_rpc: 'finish_weight_update', weight_version: '7' },
        false,
      ],
    ]);
    expect(admin.capabilities).toMatchObject({
      wire: 'vllm',
      rounds: 'three-step',
      diskLoad: true,
      weightVersion: true,
    });
  });

  it('encodes one body for all workers', () => {
    expect(admin.updateWeights(update).body).toBe(adminOf('python').updateWeights(update).body);
  });

  it('reads the recorded answers to its three steps', () => {
    const answer = noted('native start_weight_update before init');
    expect(admin.startUpdate()?.read(replyOf(answer))).toBeUndefined();
  });

  it('puts packing where the vLLM inside expects it', () => {
    const old = adminOf('python', { vllm: '0.23.0' });
    expect(old.initBroadcaster(seat).body).toEqual({
      engine_rpc: 'init_weight_transfer_engine',
      init_info: { master_address: '10.0.0.1', master_port: 29500, rank_offset: 3, world_size: 5 },
    });
    expect(old.updateWeights({ ...update }).body).toMatchObject({
      update_info: { packed: true, packed_buffer_size_bytes: 1024, packed_num_buffers: 2 },
    });
    expect(adminOf('python', { vllm: '0.18.0' }).startUpdate()).toBeNull();
  });
});

describe("the Python worker with prime-rl's extension", () => {
  const admin: EngineAdmin = adminOf('python', { rpc: 'prime-rl' });

  it('takes exactly the six keyword arguments, with ranks that leave the trainer out', () => {
    const one: GroupSeat = {
      ...seat,
      masterAddress: '127.0.0.1',
      masterPort: 29650,
      rankOffset: 1,
      worldSize: 2,
      timeoutMs: 19_001,
    };
    const init = admin.initBroadcaster(one);
    expect(init.body).toEqual({
      engine_rpc: 'init_broadcaster',
      host: '127.0.0.1',
      port: 29650,
      rank_offset: 0,
      inference_world_size: 1,
      timeout: 20,
      quantize_in_weight_transfer: false,
    });
    expect(replay(init)).toBeUndefined();
    expect(init.retryable).toBe(false);
  });

  it('gets the seats that a fleet of two was recorded with', () => {
    const two = { ...seat, masterAddress: '127.0.0.1', masterPort: 29651, worldSize: 3, timeoutMs: 20_000 };
    expect(replay(admin.initBroadcaster({ ...two, rankOffset: 1 }))).toBeUndefined();
    expect(replay(admin.initBroadcaster({ ...two, rankOffset: 2 }))).toBeUndefined();
  });

  it('receives in one shot, by weight_dir', () => {
    const made: WeightsUpdate = {
      ...update,
      weightVersion: 'step_1',
      directory: '/models/broadcasts/step_1',
    };
    const exchange = admin.updateWeights(made);
    expect(replay(exchange)).toBeUndefined();
    expect(exchange).toMatchObject({ retryable: false, budget: 'update' });
    expect([admin.startUpdate(), admin.finishUpdate({ weightVersion: '1' })]).toEqual([null, null]);
    expect(admin.capabilities).toMatchObject({
      wire: 'prime-rl',
      rounds: 'one-shot',
      restoresByEmptyRound: false,
    });
  });
});

describe('scoring through the frontend', () => {
  const tokens = [257, 117, 115, 101, 114, 10, 104, 105, 258];
  const admin = adminOf('python', { instance_id: '889013574522070843' });
  const exchange = () => admin.scorePrompt({ model: 'tiny', tokens });

  it('asks the very worker, by its whole u64', () => {
    const asked = exchange();
    expect(asked?.at).toBe('inference');
    const text = String(encoded(asked?.body ?? {}));
    expect(text).toContain('"backend_instance_id":889013574522070843,');
    expect(text).toContain('"token_data":[257,117,115,101,114,10,104,105,258]');
  });

  /** As it comes when worker_id is asked for too. */
  const servedBy = (note: string, id: string) => {
    const { response } = noted(note) as { response: { nvext?: object } };
    const worker = { prefill_worker_id: BigInt(id), decode_worker_id: BigInt(id) };
    return replyOf({
      ...noted(note),
      response: { ...response, nvext: { ...response.nvext, worker_id: worker } },
    });
  };

  it('picks the logprob of each token by its id, out of nvext or the top level', () => {
    const expected = [
      -6.622269153594971, -6.063912391662598, -5.964541435241699, -6.4893598556518555, -6.455380439758301,
      -6.0354838371276855, -6.364227771759033, -5.8380208015441895,
    ];
    for (const note of ['teacher logprobs as #2773', 'same, prompt_logprobs 0', 'same, prompt_logprobs 2']) {
      expect(exchange()?.read(servedBy(note, '889013574522070843'))).toEqual(expected);
    }
    const topLevel = servedBy('same, no extra_fields', '889013574522070843');
    expect(exchange()?.read(topLevel)).toEqual([
      -6.622269, -6.0639124, -5.9645414, -6.48936, -6.4553804, -6.035484, -6.364228, -5.838021,
    ]);
  });

  it('refuses the score of another worker, and one that says of nobody', () => {
    expect(() => exchange()?.read(replyOf(noted('teacher logprobs as #2773')))).toThrow('nobody says whom');
    const small = adminOf('python', { instance_id: '7' }).scorePrompt({ model: 'tiny', tokens });
    expect(small?.read(servedBy('teacher logprobs as #2773', '7'))).toHaveLength(8);
    expect(() => small?.read(servedBy('teacher logprobs as #2773', '8'))).toThrow('asked worker 8');
    const answer = noted('all extra fields');
    const other = adminOf('python', { instance_id: '889013574522070844' });
    expect(() => other.scorePrompt({ model: 'tiny', tokens })?.read(replyOf(answer))).toThrow(
      'an answer of worker 889013574522070844, but the frontend asked worker 889013574522070843',
    );
  });

  it('is not offered when nobody knows the worker, or the frontend', () => {
    expect(adminOf('python').scorePrompt({ model: 'tiny', tokens })).toBeNull();
    expect(adminOf('python', { instance_id: '7' }, null).scorePrompt({ model: 'tiny', tokens })).toBeNull();
  });
});
