import { getEventListeners, once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import type { Exchange, Reply } from '../../src/engines/admin.js';
import { backoffMs, DEFAULT_BUDGETS, DEFAULT_RETRY, deadlineOf } from '../../src/engines/budgets.js';
import { createHttpClient, type HttpClient, type HttpClientOptions } from '../../src/engines/http.js';
import { failure } from '../../src/engines/vllm/errors.js';
import { type ErrorCode, WeightcastError } from '../../src/errors.js';
import { sendJson, target, withServer } from './server.js';

const QUICK = { minDelayMs: 1, maxDelayMs: 2 };

async function withClient(
  options: HttpClientOptions,
  use: (http: HttpClient) => Promise<void>,
): Promise<void> {
  await using http = createHttpClient({ retry: QUICK, ...options });
  await use(http);
}

function call(changes: Partial<Exchange<Reply>> = {}): Exchange<Reply> {
  const operation = changes.operation ?? 'pause';
  return {
    operation,
    method: 'POST',
    path: '/pause',
    query: {},
    body: null,
    retryable: true,
    budget: 'pause',
    read: (reply) => {
      if (reply.status !== 200) throw failure(reply, { engine: 'e', operation, route: 'admin' });
      return reply;
    },
    ...changes,
  };
}

async function errorOf(promise: Promise<unknown>): Promise<WeightcastError> {
  const error: unknown = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(WeightcastError);
  return error as WeightcastError;
}

async function expectCode(promise: Promise<unknown>, code: ErrorCode): Promise<WeightcastError> {
  const error = await errorOf(promise);
  expect(error.code, error.message).toBe(code);
  return error;
}

describe('what a request looks like', () => {
  it('keeps the path of the base URL, encodes the query, and sends credentials and extra headers', async () => {
    await withServer(
      (_, response) => sendJson(response, 200, {}),
      async ({ url, received }) => {
        await withClient({}, async (http) => {
          const engine = target(`${url}/engines/7/`, { apiKey: 'secret', headers: { 'X-Pool': 'a' } });
          await http.exchange(engine, call({ query: { mode: 'keep', note: 'a b&c' }, body: { x: 1 } }));
        });
        expect(received).toHaveLength(1);
        expect(received[0]).toMatchObject({
          method: 'POST',
          path: '/engines/7/pause',
          query: { mode: 'keep', note: 'a b&c' },
          body: '{"x":1}',
          headers: {
            authorization: 'Bearer secret',
            'x-pool': 'a',
            'content-type': 'application/json',
            'content-length': '7',
          },
        });
      },
    );
  });

  it('says application/json on a POST without a body, whatever the extra headers say, and nothing on a GET', async () => {
    await withServer(
      (_, response) => sendJson(response, 200, {}),
      async ({ url, received }) => {
        await withClient({}, async (http) => {
          const engine = target(url, { headers: { 'Content-Type': 'text/plain' } });
          await http.exchange(engine, call());
          await http.exchange(target(url), call({ method: 'GET' }));
        });
        expect(received[0]).toMatchObject({ body: '', headers: { 'content-type': 'application/json' } });
        expect(received[1]?.headers['content-type']).toBeUndefined();
        expect(received[1]?.headers.authorization).toBeUndefined();
      },
    );
  });

  it('gives the reader status, type, text and JSON; JSON is undefined when the body is none', async () => {
    const bodies = ['{"a":1}', '{"a":', ''];
    await withServer(
      (_, response) => void response.writeHead(200, { 'content-type': 'text/x' }).end(bodies.shift()),
      async ({ target }) => {
        await withClient({}, async (http) => {
          expect(await http.exchange(target, call())).toEqual({
            status: 200,
            contentType: 'text/x',
            text: '{"a":1}',
            json: { a: 1 },
          });
          expect(await http.exchange(target, call())).toMatchObject({ text: '{"a":', json: undefined });
          expect(await http.exchange(target, call())).toMatchObject({ text: '', json: undefined });
        });
      },
    );
  });

  it('does not follow redirects', async () => {
    await withServer(
      (_, response) => void response.writeHead(307, { location: '/elsewhere' }).end(),
      async ({ target, received }) => {
        await withClient({}, async (http) => {
          const error = await expectCode(http.exchange(target, call()), 'WC_ENGINE_HTTP');
          expect(error.details.status).toBe(307);
        });
        expect(received.map((r) => r.path)).toEqual(['/pause']);
      },
    );
  });
});

describe('connections', () => {
  it('are kept between calls', async () => {
    await withServer(
      (_, response) => sendJson(response, 200, {}),
      async ({ target, received }) => {
        await withClient({}, async (http) => {
          for (let i = 0; i < 10; i += 1) await http.exchange(target, call());
        });
        expect(received).toHaveLength(10);
        expect(new Set(received.map((r) => r.port)).size).toBeLessThanOrEqual(2);
      },
    );
  });

  it('are enough that a long update does not hold up a health check', async () => {
    let finish = () => {};
    await withServer(
      (request, response) => {
        if (request.path === '/update_weights') finish = () => sendJson(response, 200, {});
        else sendJson(response, 200, {});
      },
      async ({ target, received }) => {
        await withClient({}, async (http) => {
          const update = http.exchange(target, call({ path: '/update_weights', retryable: false }));
          await expect.poll(() => received.length).toBe(1);
          await http.exchange(target, call({ method: 'GET', path: '/health', budget: 'probe' }));
          finish();
          await update;
        });
      },
    );
  });

  it('are dropped by close, which may be called twice and ends what is in flight', async () => {
    await withServer(
      () => {},
      async ({ target, received }) => {
        const http = createHttpClient({ retry: QUICK });
        const stuck = errorOf(http.exchange(target, call({ retryable: false })));
        await expect.poll(() => received.length).toBe(1);
        await http.close();
        await http.close();
        expect((await stuck).code).toBe('WC_NATIVE_CLOSED');
        await expectCode(http.exchange(target, call()), 'WC_NATIVE_CLOSED');
        expect(received).toHaveLength(1);
      },
    );
  });
});

describe('retry', () => {
  it('repeats a retryable call after 5xx until it succeeds', async () => {
    const statuses = [503, 500, 200];
    await withServer(
      (_, response) => sendJson(response, statuses.shift() ?? 200, {}),
      async ({ target, received }) => {
        await withClient({}, async (http) => {
          expect((await http.exchange(target, call())).status).toBe(200);
        });
        expect(received).toHaveLength(3);
      },
    );
  });

  it('repeats a retryable call after a reset', async () => {
    let first = true;
    await withServer(
      (_, response, socket) => {
        if (first) socket.resetAndDestroy();
        else sendJson(response, 200, {});
        first = false;
      },
      async ({ target, received }) => {
        await withClient({}, async (http) => {
          await http.exchange(target, call());
        });
        expect(received).toHaveLength(2);
      },
    );
  });

  it('gives up after the last try with the answer of that try', async () => {
    await withServer(
      (_, response) => sendJson(response, 503, { detail: 'starting' }),
      async ({ target, received }) => {
        await withClient({}, async (http) => {
          const error = await expectCode(http.exchange(target, call()), 'WC_ENGINE_HTTP');
          expect(error.message).toContain('starting');
          expect(error.message).toContain('tried 4 times');
          expect(error.details).toMatchObject({ status: 503, attempts: 4 });
        });
        expect(received).toHaveLength(4);
      },
    );
  });

  it.each([400, 401, 404, 409, 429])('never repeats a %i', async (status) => {
    await withServer(
      (_, response) => sendJson(response, status, { error: 'no' }),
      async ({ target, received }) => {
        await withClient({}, async (http) => {
          expect((await errorOf(http.exchange(target, call()))).message).toContain('no');
        });
        expect(received).toHaveLength(1);
      },
    );
  });

  it.each([
    [
      "Call to collective_rpc method failed: Worker failed with error 'no', please check the stack",
      'WC_ENGINE_HTTP',
    ],
    ['EngineCore encountered an issue. See stack trace (above) for the root cause.', 'WC_ENGINE_DEAD'],
    ['Weight transfer not configured. Please set weight_transfer_config', 'WC_ENGINE_NOT_CONFIGURED'],
  ] as const)('never repeats a 500 that would only come again: %s', async (message, code) => {
    await withServer(
      (_, response) => sendJson(response, 500, { error: { message } }),
      async ({ target, received }) => {
        await withClient({}, async (http) => {
          await expectCode(http.exchange(target, call()), code);
        });
        expect(received).toHaveLength(1);
      },
    );
  });

  it('sends a call that is not retryable once, when the answer is 503', async () => {
    await withServer(
      (_, response) => sendJson(response, 503, {}),
      async ({ target, received }) => {
        await withClient({}, async (http) => {
          const error = await expectCode(http.exchange(target, call({ retryable: false })), 'WC_ENGINE_HTTP');
          expect(error.message).not.toContain('tried');
        });
        expect(received).toHaveLength(1);
      },
    );
  });

  it('sends a call that is not retryable once, when the connection breaks, also one that was kept', async () => {
    await withServer(
      (request, response, socket) => {
        if (request.path === '/update_weights') socket.resetAndDestroy();
        else sendJson(response, 200, {});
      },
      async ({ target, received }) => {
        await withClient({}, async (http) => {
          for (let i = 0; i < 4; i += 1) await http.exchange(target, call());
          const update = call({ path: '/update_weights', retryable: false, budget: 'update' });
          const error = await expectCode(http.exchange(target, update), 'WC_ENGINE_UNREACHABLE');
          expect(error.details.sent).toBe(true);
        });
        const [update, ...before] = received.toReversed();
        expect(before.every((request) => request.path === '/pause')).toBe(true);
        expect(before.map((request) => request.port)).toContain(update?.port);
      },
    );
  });

  it('waits 1 to 10 s, longer after each failure and never twice the same', () => {
    const waits = (random: number) =>
      [1, 2, 3, 4, 9].map((failed) => backoffMs(DEFAULT_RETRY, failed, () => random));
    expect(waits(0)).toEqual([1000, 2000, 4000, 5000, 5000]);
    expect(waits(1)).toEqual([2000, 4000, 8000, 10_000, 10_000]);
  });
});

describe('deadlines', () => {
  it('of every kind of call are those that the issue asks for', () => {
    const seconds = Object.entries(DEFAULT_BUDGETS).map(([name, d]) => [
      name,
      d.attemptMs / 1000,
      d.totalMs / 1000,
    ]);
    expect(seconds).toEqual([
      ['probe', 5, 15],
      ['pause', 300, 300],
      ['init', 300, 300],
      ['update', 720, 720],
      ['load', 720, 720],
      ['checksum', 300, 300],
      ['score', 60, 60],
    ]);
  });

  it('given by the caller replace the total, and the try where one try may take it all', () => {
    expect(deadlineOf(DEFAULT_BUDGETS.update, 9e6)).toEqual({ attemptMs: 9e6, totalMs: 9e6 });
    expect(deadlineOf(DEFAULT_BUDGETS.probe, 60_000)).toEqual({ attemptMs: 5_000, totalMs: 60_000 });
    expect(deadlineOf(DEFAULT_BUDGETS.probe, 2_000)).toEqual({ attemptMs: 2_000, totalMs: 2_000 });
  });

  it('end a call that gets no answer, naming the operation and the seconds', async () => {
    await withServer(
      () => {},
      async ({ target, received }) => {
        await withClient({}, async (http) => {
          const update = call({ operation: 'update_weights', retryable: false });
          const error = await expectCode(
            http.exchange(target, update, { timeoutMs: 100 }),
            'WC_ENGINE_TIMEOUT',
          );
          expect(error.message).toContain('update_weights');
          expect(error.message).toContain('0.1 s');
          expect(error.engine).toBe(target.id);
        });
        expect(received).toHaveLength(1);
      },
    );
  });

  it('of one try let a retryable call try again', async () => {
    let calls = 0;
    await withServer(
      (_, response) => {
        calls += 1;
        if (calls === 2) sendJson(response, 200, {});
      },
      async ({ target }) => {
        await withClient({ budgets: { probe: { attemptMs: 80, totalMs: 20_000 } } }, async (http) => {
          await http.exchange(target, call({ budget: 'probe' }));
        });
        expect(calls).toBe(2);
      },
    );
  });

  it('in total bound all tries together', async () => {
    await withServer(
      () => {},
      async ({ target }) => {
        const retry = { attempts: 1000, minDelayMs: 1, maxDelayMs: 1 };
        await withClient({ retry, budgets: { probe: { attemptMs: 40, totalMs: 200 } } }, async (http) => {
          const began = performance.now();
          await expectCode(http.exchange(target, call({ budget: 'probe' })), 'WC_ENGINE_TIMEOUT');
          const took = performance.now() - began;
          expect(took).toBeGreaterThan(100);
          expect(took).toBeLessThan(1_200);
        });
      },
    );
  });

  it('end an answer whose body never ends', async () => {
    await withServer(
      (_, response) => {
        response.writeHead(200, { 'content-type': 'application/json' });
        response.write('{"status":');
        const timer = setInterval(() => response.write(' '), 10);
        response.on('close', () => clearInterval(timer));
      },
      async ({ target }) => {
        await withClient({}, async (http) => {
          const slow = http.exchange(target, call({ retryable: false }), { timeoutMs: 150 });
          await expectCode(slow, 'WC_ENGINE_TIMEOUT');
        });
      },
    );
  });
});

describe('hostile answers', () => {
  it('larger than the limit are given up before they are read whole', async () => {
    let written = 0;
    await withServer(
      (_, response) => {
        response.writeHead(200);
        const chunk = Buffer.alloc(64 * 1024, 0x20);
        const pump = () => {
          if (response.destroyed) return;
          written += chunk.byteLength;
          if (response.write(chunk)) setImmediate(pump);
          else response.once('drain', pump);
        };
        pump();
      },
      async ({ target, received }) => {
        await withClient({ maxBodyBytes: 256 * 1024 }, async (http) => {
          const error = await expectCode(http.exchange(target, call()), 'WC_ENGINE_PROTOCOL');
          expect(error.message).toContain('262144 bytes');
        });
        expect(received).toHaveLength(1);
        expect(written).toBeLessThan(64 * 1024 * 1024);
      },
    );
  });

  it('that are no HTTP are said to be none', async () => {
    const sockets: Socket[] = [];
    const server = createServer((socket) => {
      sockets.push(socket);
      socket.on('error', () => {});
      socket.end('SSH-2.0-OpenSSH_9.2\r\n');
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    await withClient({}, async (http) => {
      const error = await expectCode(
        http.exchange(target(`http://127.0.0.1:${port}`), call()),
        'WC_ENGINE_PROTOCOL',
      );
      expect(error.message).toContain('does not answer in HTTP');
    });
    for (const socket of sockets) socket.destroy();
    server.close();
  });
});

describe('unreachable engines', () => {
  it('that refuse are told from those that may have got the request', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    server.close();
    await once(server, 'close');
    await withClient({}, async (http) => {
      const refused = http.exchange(target(`http://127.0.0.1:${port}`), call());
      const error = await expectCode(refused, 'WC_ENGINE_UNREACHABLE');
      expect(error.details).toMatchObject({ sent: false, cause: 'ECONNREFUSED', attempts: 4 });
      expect(error.message).toContain(`127.0.0.1:${port}`);
      expect(error.cause).toBeDefined();
    });
  });

  it('by a name that does not exist are unreachable too', async () => {
    await withClient({}, async (http) => {
      const single = call({ retryable: false });
      const error = await expectCode(
        http.exchange(target('http://no-such-host.invalid'), single),
        'WC_ENGINE_UNREACHABLE',
      );
      expect(error.details.sent).toBe(false);
    });
  });
});

describe('an AbortSignal', () => {
  it('that is aborted already sends nothing', async () => {
    await withServer(
      (_, response) => sendJson(response, 200, {}),
      async ({ target, received }) => {
        await withClient({}, async (http) => {
          const signal = AbortSignal.abort();
          const error = await expectCode(http.exchange(target, call(), { signal }), 'WC_UPDATE_ABORTED');
          expect(error.details.sent).toBe(false);
        });
        expect(received).toHaveLength(0);
      },
    );
  });

  it('ends a call in flight at once, is not retried, and leaves no listener behind', async () => {
    await withServer(
      () => {},
      async ({ target, received }) => {
        await withClient({}, async (http) => {
          const controller = new AbortController();
          const pending = errorOf(http.exchange(target, call(), { signal: controller.signal }));
          await expect.poll(() => received.length).toBe(1);
          controller.abort(new Error('SIGINT'));
          const error = await pending;
          expect(error.code).toBe('WC_UPDATE_ABORTED');
          expect(error.cause).toBe(controller.signal.reason);
          expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0);
        });
        expect(received).toHaveLength(1);
      },
    );
  });

  it('ends the wait between two tries', async () => {
    await withServer(
      (_, response) => sendJson(response, 503, {}),
      async ({ target, received }) => {
        await withClient({ retry: { attempts: 3, minDelayMs: 60_000, maxDelayMs: 60_000 } }, async (http) => {
          const controller = new AbortController();
          const pending = errorOf(http.exchange(target, call(), { signal: controller.signal }));
          await expect.poll(() => received.length).toBe(1);
          await expect.poll(() => getEventListeners(controller.signal, 'abort').length).toBe(1);
          controller.abort();
          expect((await pending).code).toBe('WC_UPDATE_ABORTED');
          expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0);
        });
      },
    );
  });

  it('aborted with an error of ours gives that error', async () => {
    await withServer(
      () => {},
      async ({ target, received }) => {
        await withClient({}, async (http) => {
          const controller = new AbortController();
          const pending = errorOf(http.exchange(target, call(), { signal: controller.signal }));
          await expect.poll(() => received.length).toBe(1);
          const reason = new WeightcastError('WC_NCCL_TIMEOUT', 'rank 2 is missing');
          controller.abort(reason);
          expect(await pending).toBe(reason);
        });
      },
    );
  });
});
