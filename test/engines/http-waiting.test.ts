/** How long a call may take, how often it is sent, and how it is stopped. */
import { getEventListeners } from 'node:events';
import { describe, expect, it } from 'vitest';
import { backoffMs, DEFAULT_BUDGETS, DEFAULT_RETRY, deadlineOf } from '../../src/engines/budgets.js';
import { WeightcastError } from '../../src/errors.js';
import { call, errorOf, expectCode, withClient } from './client.js';
import { sendJson, withServer } from './server.js';

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
    expect(deadlineOf(DEFAULT_BUDGETS.update, Number.POSITIVE_INFINITY).attemptMs).toBe(2 ** 31 - 1);
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
