/** Every error body that a real server sent gives an error with the server's own words and the right code. */
import { describe, expect, it } from 'vitest';
import type { Exchange } from '../../../src/engines/admin.js';
import { type VllmAdmin, vllmAdmin } from '../../../src/engines/vllm/admin.js';
import { selectDialect } from '../../../src/engines/vllm-native/dialects.js';
import { failure } from '../../../src/engines/vllm-native/errors.js';
import { workerMessage } from '../../../src/engines/vllm-native/worker-message.js';
import { type ErrorCode, WeightcastError } from '../../../src/errors.js';
import { type Recorded, recorded, replyOf, VERSIONS, type Version } from './recordings.js';

function adminOf(version: string): VllmAdmin {
  return vllmAdmin({ engine: 'http://e', version, notes: [] }, selectDialect(version).dialect);
}

/** The exchange that reads this path's answers; the rest is read as any admin or inference call. */
function exchangeOf(admin: VllmAdmin, path: string): Exchange<unknown> | null {
  const seat = {
    rankOffset: 1,
    worldSize: 2,
    masterAddress: 'a',
    masterPort: 1,
    uniqueId: null,
    packing: null,
  };
  const tensors = [{ name: 'a', dtypeName: 'float32', shape: [1] }];
  const byPath: Record<string, () => Exchange<unknown> | null> = {
    '/health': () => admin.health(),
    '/v1/models': () => admin.listModels(),
    '/get_world_size': () => admin.worldSize(),
    '/is_paused': () => admin.isPaused(),
    '/pause': () => admin.pause({ mode: 'keep', clearCache: true }),
    '/resume': () => admin.resume(),
    '/init_weight_transfer_engine': () => admin.initBroadcaster(seat),
    '/shutdown_weight_transfer_engine': () => admin.shutdownBroadcaster(),
    '/start_weight_update': () => admin.startUpdate(),
    '/update_weights': () => admin.updateWeights({ tensors, packing: null }),
    '/finish_weight_update': () => admin.finishUpdate({ weightVersion: null }),
    '/collective_rpc': () => admin.reloadFromDisk('/m'),
    '/reset_prefix_cache': () => admin.resetPrefixCache({ resetRunningRequests: false }),
    '/weight_info': () => admin.weightVersion(),
    '/update_weight_version': () => admin.setWeightVersion('v'),
    '/weight_checker': () => admin.checksums(),
    '/v1/completions': () => admin.scorePrompt({ model: 'tiny', tokens: [5] }),
    '/v1/load_lora_adapter': () => admin.loadLoraAdapter({ name: 'a', path: '/a' }),
    '/v1/unload_lora_adapter': () => admin.unloadLoraAdapter({ name: 'a' }),
  };
  return byPath[path]?.() ?? null;
}

function errorOf(version: Version, entry: Recorded): WeightcastError {
  const reply = replyOf(entry);
  const exchange = exchangeOf(adminOf(version), entry.path);
  if (exchange === null) return failure(reply, { engine: 'http://e', operation: 'call', route: 'admin' });
  try {
    exchange.read(reply);
  } catch (error) {
    expect(error).toBeInstanceOf(WeightcastError);
    return error as WeightcastError;
  }
  return expect.unreachable(`${entry.path} ${entry.status} was read as success`);
}

/** The words a person would look for, found by hand-made rules and not by the code under test. */
function ownWords(response: unknown): string {
  if (typeof response === 'string') return response.slice(0, 200);
  const body = response as { error?: string | { message: string }; detail?: string };
  const message = typeof body.error === 'object' ? body.error.message : (body.error ?? body.detail ?? '');
  const worker = message.indexOf("Worker failed with error '");
  const inner = worker < 0 ? message : message.slice(worker + "Worker failed with error '".length);
  return inner
    .replace(/^Call to collective_rpc method failed: /, '')
    .split("', please check the stack trace")[0]!
    .trim()
    .slice(0, 200);
}

const CODES: readonly (readonly [ErrorCode, (entry: Recorded, words: string) => boolean])[] = [
  ['WC_ENGINE_UNAUTHORIZED', (entry) => entry.status === 401],
  ['WC_ENGINE_NOT_CONFIGURED', (_, words) => words.startsWith('Weight transfer not configured.')],
  ['WC_ENGINE_DEAD', (entry) => entry.path === '/health' && entry.status === 503],
  ['WC_ENGINE_DEAD', (_, words) => words.includes('EngineCore encountered an issue.')],
  ['WC_ENGINE_DEAD', (_, words) => words === 'The server had an error while processing your request.'],
  ['WC_ENGINE_DEV_MODE', (entry, words) => words === 'Not Found' && !entry.path.startsWith('/v1/')],
  ['WC_ENGINE_HTTP', () => true],
];

describe.each(VERSIONS)('every error of vLLM %s', (version) => {
  const failed = recorded(version).filter((entry) => entry.status >= 300);

  it('has the right code, names the operation, and repeats the words of the server', () => {
    expect(failed.length).toBeGreaterThan(70);
    for (const entry of failed) {
      const words = ownWords(entry.response);
      const error = errorOf(version, entry);
      const label = `${entry.method} ${entry.path} ${entry.status} ${words}`;
      expect(error.message, label).toContain(words === '' ? 'no explanation' : words);
      expect(error.message.startsWith(`${error.details.operation}: `), label).toBe(true);
      expect(error.message).not.toContain('please check the stack trace');
      expect(error.engine).toBe('http://e');
      const expected = CODES.find(([, applies]) => applies(entry, words))?.[0];
      expect(error.code, label).toBe(expected);
      expect(error.details.status).toBe(entry.status);
    }
  });

  it('that a worker raised is marked as one that comes again', () => {
    const worker = failed.filter((entry) =>
      JSON.stringify(entry.response).includes('Call to collective_rpc method failed'),
    );
    if (version !== '0.16.0') expect(worker.length).toBeGreaterThan(10);
    for (const entry of worker.filter((one) => typeof one.response === 'object')) {
      expect(errorOf(version, entry).details.transient).toBe(false);
    }
  });
});

describe('errors with a remedy of their own', () => {
  const reply = (status: number, json: unknown, text = JSON.stringify(json)) => ({
    status,
    contentType: null,
    text,
    json,
  });

  it('the one text of 0.16 points at the log of the server', () => {
    const entry = recorded('0.16.0').find((one) => one.path === '/update_weights' && one.status === 500)!;
    expect(errorOf('0.16.0', entry).remedy).toContain('log of the server');
  });

  it('an adapter route that is not there points at what switches it on', () => {
    const entry = recorded('0.32.0').find(
      (one) => one.path === '/v1/load_lora_adapter' && one.status === 404 && one.phase === 'N',
    )!;
    expect(errorOf('0.32.0', entry).remedy).toContain('VLLM_ALLOW_RUNTIME_LORA_UPDATING');
  });

  it('a 200 with an error in it is an error, as 0.16 sends them', () => {
    const entry = recorded('0.16.0').find(
      (one) => one.status === 200 && JSON.stringify(one.response).startsWith('{"error"'),
    )!;
    expect(() => adminOf('0.16.0').health().read(replyOf(entry))).toThrow(
      'You must pass at least one prompt',
    );
  });

  it('a page of a proxy is quoted, and cut', () => {
    const page = `<html>502 Bad Gateway${'x'.repeat(100_000)}</html>`;
    const error = failure(reply(502, undefined, page), { engine: 'e', operation: 'pause', route: 'admin' });
    expect(error.message).toContain('502 Bad Gateway');
    expect(error.message.length).toBeLessThan(2_100);
    expect(error.details.transient).toBe(true);
  });

  it.each([
    [{ detail: [{ loc: ['body'], msg: 'Field required' }] }, 'Field required'],
    [{ message: 'old shape' }, 'old shape'],
    [{ error: null, detail: 'both' }, 'both'],
    [{ error: { message: 5 } }, '{"error":{"message":5}}'],
    [['list'], '["list"]'],
    [7, '7'],
  ])('%j is quoted as %s', (json, words) => {
    const error = failure(reply(422, json), { engine: 'e', operation: 'pause', route: 'admin' });
    expect(error.message).toContain(words);
  });

  it('a worker that quotes keeps its quotes', () => {
    expect(
      workerMessage(
        "Call to x method failed: Worker failed with error 'it's 'a'', please check the stack trace above for the root cause",
      ),
    ).toBe("it's 'a'");
    expect(workerMessage('Call to x method failed: plain')).toBe('plain');
    expect(workerMessage('something else')).toBeNull();
  });
});
