/** 200 is not success: what each answer must hold. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Exchange } from '../../../src/engines/admin.js';
import { vllmAdmin } from '../../../src/engines/vllm/admin.js';
import { selectDialect } from '../../../src/engines/vllm-native/dialects.js';
import { WeightcastError } from '../../../src/errors.js';

const admin = vllmAdmin(
  { engine: 'http://e', version: '0.33.0', notes: [] },
  selectDialect('0.33.0').dialect,
);

function answer<T>(exchange: Exchange<T>, json: unknown, status = 200): T {
  return exchange.read({ status, contentType: 'application/json', text: JSON.stringify(json) ?? '', json });
}

const seat = {
  rankOffset: 1,
  worldSize: 2,
  masterAddress: 'a',
  masterPort: 1,
  uniqueId: null,
  packing: null,
};
const OPERATIONS: readonly (readonly [string, Exchange<unknown>])[] = [
  ['models', admin.listModels()],
  ['world size', admin.worldSize()],
  ['is_paused', admin.isPaused()],
  ['pause', admin.pause({ mode: 'keep', clearCache: true })],
  ['resume', admin.resume()],
  ['init', admin.initBroadcaster(seat)],
  ['start', admin.startUpdate()!],
  [
    'update',
    admin.updateWeights({ tensors: [{ name: 'a', dtypeName: 'uint8', shape: [1] }], packing: null }),
  ],
  ['finish', admin.finishUpdate({ weightVersion: null })!],
  ['reload', admin.reloadFromDisk('/m')],
  ['reset', admin.resetPrefixCache({ resetRunningRequests: false })],
  ['weight version', admin.weightVersion()!],
  ['set weight version', admin.setWeightVersion('v')!],
  ['checksums', admin.checksums()!],
  ['score', admin.scorePrompt({ model: 'm', tokens: [1, 2] })],
];

describe.each(OPERATIONS)('%s', (_, exchange) => {
  it.each([
    ['no body', undefined],
    ['an empty object', {}],
    ['a list', []],
    ['a string', 'ok'],
    ['null', null],
  ])('is not done when the 200 holds %s', (__, json) => {
    expect(() => answer(exchange, json)).toThrowError(
      expect.objectContaining({ code: 'WC_ENGINE_PROTOCOL' }),
    );
  });

  it('is not done when the 200 holds an error', () => {
    expect(() => answer(exchange, { error: 'it broke' })).toThrow('it broke');
  });

  it('throws nothing but our errors, whatever the answer holds', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.constantFrom(200, 204, 404, 500, 503), (json, status) => {
        try {
          answer(exchange, json, status);
        } catch (error) {
          expect(error).toBeInstanceOf(WeightcastError);
        }
      }),
    );
  });
});

describe('wrong types and values', () => {
  it.each([
    [{ world_size: 0 }],
    [{ world_size: 1.5 }],
    [{ world_size: '2' }],
    [{ world_size: 1e9 }],
    [{ world_size: null }],
  ])('%j is no world size', (json) => {
    expect(() => answer(admin.worldSize(), json)).toThrow('world_size');
  });

  it('a pause that says another status is no pause', () => {
    expect(() => answer(admin.pause({ mode: 'keep', clearCache: true }), { status: 'pausing' })).toThrow(
      '"paused"',
    );
  });

  it('a weight version that was not set is not set', () => {
    expect(() => answer(admin.setWeightVersion('v')!, { success: false })).toThrow('"success":true');
  });

  it('a cache that was not reset is reported as false, not as an error', () => {
    expect(answer(admin.resetPrefixCache({ resetRunningRequests: false }), { success: false })).toBe(false);
  });

  it('unknown fields pass', () => {
    expect(answer(admin.isPaused(), { is_paused: true, since: 5 })).toBe(true);
  });

  it('models without root and parent are read; a model without id is not', () => {
    expect(answer(admin.listModels(), { data: [{ id: 'm' }] })).toEqual([
      { id: 'm', root: null, parent: null },
    ]);
    expect(() => answer(admin.listModels(), { data: [{ root: '/m' }] })).toThrow('id');
  });
});

describe('checksums', () => {
  const sum = 'ab'.repeat(32);
  const read = (sums: Record<string, unknown>) => answer(admin.checksums()!, { checksums: sums });

  it('are grouped by worker', () => {
    const sums = read({
      'dp0:pp0:pcp0:tp0:model.norm.weight': sum,
      'dp0:pp0:pcp0:tp1:model.norm.weight': sum,
      'dp1:pp0:pcp0:tp0:a:b': sum,
    });
    expect([...sums].map(([worker, names]) => [worker, [...names.keys()]])).toEqual([
      ['dp0:pp0:pcp0:tp0', ['model.norm.weight']],
      ['dp0:pp0:pcp0:tp1', ['model.norm.weight']],
      ['dp1:pp0:pcp0:tp0', ['a:b']],
    ]);
  });

  it.each([
    [{ 'model.norm.weight': sum }],
    [{ 'dp0:tp0:w': 'xyz' }],
    [{ 'dp0:tp0:w': sum.toUpperCase() }],
    [{ 'dp0:tp0:w': 5 }],
    [{ 'dp0:tp0:': sum }],
    [{ [`dp0:tp0:${'w'.repeat(2000)}`]: sum }],
  ])('%j are refused', (sums) => {
    expect(() => read(sums)).toThrow('SHA-256');
  });

  it('of a parameter called __proto__ pollute nothing', () => {
    const sums = read(JSON.parse(`{"dp0:tp0:__proto__":"${sum}"}`) as Record<string, unknown>);
    expect(sums.get('dp0:tp0')?.get('__proto__')).toBe(sum);
  });
});

describe('the start of the process', () => {
  const read = (text: string, status = 200) =>
    admin.processStart().read({ status, contentType: 'text/plain', text, json: undefined });

  it('is found among the metrics, whole or in exponent form', () => {
    expect(read('# TYPE x gauge\nx 1\nprocess_start_time_seconds 1.79525097551e+09\ny 2\n')).toBe(
      1795250975.51,
    );
    expect(read('process_start_time_seconds{pid="7"} 1795250975\n')).toBe(1795250975);
  });

  it('is null where the server does not say', () => {
    expect(read('')).toBeNull();
    expect(read('', 404)).toBeNull();
    expect(read('process_start_time_seconds NaN\n')).toBeNull();
    expect(read('xprocess_start_time_seconds 5\nprocess_start_time_seconds_total 5\n')).toBeNull();
    expect(read('process_start_time_seconds -\n')).toBeNull();
  });

  it('is an error where the server fails', () => {
    expect(() => read('broken', 500)).toThrow('broken');
  });
});

describe('the running requests', () => {
  const read = (text: string, status = 200) =>
    admin.runningRequests().read({ status, contentType: 'text/plain', text, json: undefined });

  it('are summed over the engine cores', () => {
    const gauge = (engine: number, value: string) =>
      `vllm:num_requests_running{engine="${engine}",model_name="m"} ${value}\n`;
    expect(read(`# TYPE vllm:num_requests_running gauge\n${gauge(0, '3.0')}${gauge(1, '2.0')}`)).toBe(5);
    expect(read('vllm:num_requests_running 0.0\n')).toBe(0);
  });

  it('are null where the server does not say', () => {
    expect(read('')).toBeNull();
    expect(read('', 404)).toBeNull();
    expect(read('vllm:num_requests_running NaN\n')).toBeNull();
    expect(read('vllm:num_requests_running_total 5\n')).toBeNull();
  });

  it('are an error where the server fails', () => {
    expect(() => read('broken', 500)).toThrow('broken');
  });
});

describe('a scored prompt', () => {
  const tokens = [5, 17, 40];
  const read = (prompt_logprobs: unknown) =>
    answer(admin.scorePrompt({ model: 'm', tokens }), { choices: [{ prompt_logprobs }] });
  const entry = (token: number, logprob: unknown) => ({
    [token]: { logprob, rank: 1 },
    999: { logprob: -0.1 },
  });

  it('gives the log-probability of each own token, not of the likeliest', () => {
    expect(read([null, entry(17, -7.5), entry(40, -9)])).toEqual([-7.5, -9]);
  });

  it.each([
    ['fewer tokens', [null, entry(17, -7.5)]],
    ['another token', [null, entry(17, -7.5), entry(41, -9)]],
    ['a text for a number', [null, entry(17, '-7.5'), entry(40, -9)]],
    ['nothing', null],
  ])('is refused with %s', (_, scores) => {
    expect(() => read(scores)).toThrowError(expect.objectContaining({ code: 'WC_ENGINE_PROTOCOL' }));
  });
});
