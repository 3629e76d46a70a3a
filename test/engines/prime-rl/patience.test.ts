/** How often, how long, and after which answers a request is sent again: contracts/prime-rl.md 1.3, but a receive only once. */
import { describe, expect, it } from 'vitest';
import type { Exchange } from '../../../src/engines/admin.js';
import { expectCode, withClient } from '../client.js';
import { target } from '../server.js';
import { type RawHandler, withRawServer } from './raw-server.js';
import { adminOf, seatOf } from './support.js';

const UPDATE = { tensors: [], packing: null, weightVersion: null, directory: '/w' };
const nccl = adminOf();
const pause = nccl.pause({ mode: 'keep', clearCache: false });
const load = adminOf('0.8', 'filesystem').reloadFromDisk('/w', { weightVersion: null }) as Exchange<null>;
const adapter = nccl.loadLoraAdapter({ name: 'a', path: '/a' });

/** Requests that a server got that answers like this; the exchange ends in success or not. */
async function tries(exchange: Exchange<unknown>, handler: RawHandler, timeoutMs?: number): Promise<number> {
  let count = 0;
  await withRawServer(handler, (url, requests) =>
    withClient({}, async (http) => {
      await http.exchange(target(url), exchange, { timeoutMs }).catch(() => undefined);
      count = requests.length;
    }),
  );
  return count;
}

const always =
  (status: number): RawHandler =>
  () => ({ status, body: { error: { message: 'no' } } });

describe('the limits of prime-rl’s client', () => {
  it.each<readonly [string, Exchange<unknown>, number, number, number]>([
    ['pause', pause, 300_000, 600_000, 10],
    ['resume', nccl.resume(), 300_000, 600_000, 10],
    ['a load from disk', load, 720_000, 1_440_000, 10],
    ['an adapter', adapter, 30_000, 120_000, 10],
  ])('of %s', (_, { patience, retryable }, attemptMs, totalMs, attempts) => {
    expect(retryable).toBe(true);
    expect(patience).toEqual({ connectMs: 10_000, attemptMs, totalMs, attempts });
  });

  it('of what makes workers receive: the read timeout, once', () => {
    expect(nccl.updateWeights(UPDATE)).toMatchObject({
      retryable: false,
      patience: { attemptMs: 720_000, totalMs: 720_000, connectMs: 10_000 },
    });
    expect(nccl.initBroadcaster(seatOf(0, [1]))).toMatchObject({ retryable: false });
  });
});

describe('is sent again', () => {
  it.each<readonly [string, Exchange<unknown>, RawHandler, number]>([
    ['pause after a 500, ten times in all', pause, always(500), 10],
    ['resume after a 503', nccl.resume(), always(503), 10],
    ['pause after a dropped connection', pause, () => 'drop', 10],
    ['a load from disk after a worker’s exception: the files may not be visible yet', load, always(500), 10],
    ['an adapter after a 404: NFS may show it later', adapter, always(404), 10],
    ['an adapter after a 500', adapter, always(500), 10],
  ])('%s', async (_, exchange, handler, count) => {
    expect(await tries(exchange, handler)).toBe(count);
  });

  it('an adapter whose files come in time is loaded', async () => {
    await withRawServer(
      (_, index) =>
        index < 3
          ? { status: 404, body: { error: { message: 'No adapter found' } } }
          : { status: 200, body: { status: 'ok' } },
      (url, requests) =>
        withClient({}, async (http) => {
          await http.exchange(target(url), adapter);
          expect(requests).toHaveLength(4);
        }),
    );
  });

  it('a try that is not answered in its own time', async () => {
    const brief = { ...pause, patience: { connectMs: 1000, attemptMs: 50, totalMs: 60_000, attempts: 3 } };
    expect(await tries(brief, () => null)).toBe(3);
  });
});

describe('is sent once', () => {
  it.each<readonly [string, Exchange<unknown>, RawHandler]>([
    [
      'an NCCL update after a 500: a second would read the next broadcast as its count',
      nccl.updateWeights(UPDATE),
      always(500),
    ],
    ['an NCCL update after a dropped connection', nccl.updateWeights(UPDATE), () => 'drop'],
    ['an invitation to a group after a 500', nccl.initBroadcaster(seatOf(0, [1])), always(500)],
    ['pause after a 4xx', pause, always(400)],
    ['a load from disk after a 404', load, always(404)],
    ['an adapter after a 400', adapter, always(400)],
  ])('%s', async (_, exchange, handler) => {
    expect(await tries(exchange, handler)).toBe(1);
  });

  it('an NCCL update that is not answered: the worker is in it, whatever we do', async () => {
    expect(await tries(nccl.updateWeights(UPDATE), () => null, 50)).toBe(1);
  });
});

describe('no route', () => {
  it('of health is healthy', async () => {
    await withRawServer(always(404), (url) =>
      withClient({}, async (http) => {
        await http.exchange(target(url), nccl.health());
      }),
    );
  });

  it('to join by is an engine that can’t receive, said at once instead of a rendezvous that hangs', async () => {
    await withRawServer(
      () => ({ status: 404, body: { detail: 'Not Found' } }),
      (url) =>
        withClient({}, async (http) => {
          const failed = http.exchange(target(url), nccl.initBroadcaster(seatOf(0, [1])));
          expect((await expectCode(failed, 'WC_ENGINE_NOT_CONFIGURED')).remedy).toContain('router');
        }),
    );
  });

  it.each<readonly [string, Exchange<unknown>]>([
    ['pause', pause],
    ['resume', nccl.resume()],
    ['update', nccl.updateWeights(UPDATE)],
  ])('for %s is a failure', async (_, exchange) => {
    await withRawServer(
      () => ({ status: 404, body: { detail: 'Not Found' } }),
      (url) =>
        withClient(
          {},
          async (http) => void (await expectCode(http.exchange(target(url), exchange), 'WC_ENGINE_HTTP')),
        ),
    );
  });
});

it('an adapter that is gone already is unloaded; a server without the route has failed to', () => {
  const { read } = nccl.unloadLoraAdapter({ name: 'a' });
  const reply = (json: unknown) => ({ status: 404, contentType: null, text: JSON.stringify(json), json });
  const gone = {
    error: { message: "The lora adapter 'a' cannot be found.", type: 'NotFoundError', code: 404 },
  };
  expect(read(reply(gone))).toBeUndefined();
  expect(() => read(reply({ detail: 'Not Found' }))).toThrow(
    expect.objectContaining({ code: 'WC_ENGINE_HTTP' }),
  );
});

describe('an answer', () => {
  const update = nccl.updateWeights(UPDATE);
  it.each<readonly [string, Exchange<unknown>, number, unknown, string, string]>([
    [
      'vLLM’s catch-all',
      update,
      500,
      {
        error: {
          message: 'Call to collective_rpc method failed: Receive failed',
          type: 'InternalServerError',
          param: null,
          code: 500,
        },
      },
      'WC_ENGINE_HTTP',
      'Receive failed',
    ],
    [
      'plain text, as older servers have it',
      update,
      500,
      'Internal Server Error',
      'WC_ENGINE_HTTP',
      'Internal Server Error',
    ],
    ['nothing at all', update, 502, '', 'WC_ENGINE_HTTP', 'no explanation'],
    [
      'a dead engine',
      nccl.resume(),
      500,
      { error: { message: 'EngineDeadError()' } },
      'WC_ENGINE_DEAD',
      'EngineDeadError',
    ],
    ['a dead engine’s health', nccl.health(), 503, '', 'WC_ENGINE_DEAD', '503'],
    [
      'a missing key',
      nccl.resume(),
      401,
      { error: 'Unauthorized' },
      'WC_ENGINE_UNAUTHORIZED',
      'Unauthorized',
    ],
    [
      'a 200 that says something else',
      pause,
      200,
      { status: 'resumed' },
      'WC_ENGINE_PROTOCOL',
      '{"status":"paused"}',
    ],
    ['a 200 that says nothing', update, 200, '', 'WC_ENGINE_PROTOCOL', 'an empty body'],
    ['a 200 with an error in it', update, 200, { error: 'out of memory' }, 'WC_ENGINE_HTTP', 'out of memory'],
    [
      'a 200 of the wrong type',
      nccl.resume(),
      200,
      ['resumed'],
      'WC_ENGINE_PROTOCOL',
      '{"status":"resumed"}',
    ],
  ])('%s', (_, exchange, status, body, code, words) => {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const json = typeof body === 'string' ? undefined : body;
    expect(() => exchange.read({ status, contentType: null, text, json })).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(words) }),
    );
  });

  it('to an invitation, of a server that was started for files, says what to do', () => {
    const reply = { status: 500, contentType: null, text: 'Internal Server Error', json: undefined };
    expect(() => nccl.initBroadcaster(seatOf(0, [1])).read(reply)).toThrow(
      expect.objectContaining({ remedy: expect.stringContaining('broadcast=filesystem') }),
    );
  });

  it('may have fields that nobody knows', () => {
    const json = { status: 'ok', version_uid: 'x' };
    expect(update.read({ status: 200, contentType: null, text: JSON.stringify(json), json })).toBeUndefined();
  });
});
