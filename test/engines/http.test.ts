import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { createHttpClient } from '../../src/engines/http.js';
import { call, errorOf, expectCode, QUICK, withClient } from './client.js';
import { sendJson, target, withServer } from './server.js';

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

  it('goes over the connection of the answer before, also when it follows at once', async () => {
    await withServer(
      (_, response) => sendJson(response, 200, {}),
      async ({ target, received }) => {
        await withClient({}, async (http) => {
          for (let i = 0; i < 5; i += 1) await http.exchange(target, call());
        });
        expect(received).toHaveLength(5);
        expect(new Set(received.map(({ port }) => port)).size).toBe(1);
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

  it('is refused before it is sent when a key or a header cannot be one, and the key is not repeated', async () => {
    await withServer(
      (_, response) => sendJson(response, 200, {}),
      async ({ url, received }) => {
        await withClient({}, async (http) => {
          const bad = target(url, { apiKey: 'hunter2\n' });
          const error = await expectCode(http.exchange(bad, call()), 'WC_CONFIG_INVALID');
          expect(JSON.stringify(error.toJSON())).not.toContain('hunter2');
          expect(error.details.sent).toBe(false);
        });
        expect(received).toHaveLength(0);
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

  it('are not used again after a 500: uvicorn drops them then, without having said so', async () => {
    await withServer(
      (request, response) => sendJson(response, request.path === '/start_weight_update' ? 500 : 200, {}),
      async ({ target, received }) => {
        await withClient({}, async (http) => {
          for (let i = 0; i < 5; i += 1) await http.exchange(target, call());
          const start = call({ path: '/start_weight_update', retryable: false });
          await expectCode(http.exchange(target, start), 'WC_ENGINE_HTTP');
          const before = new Set(received.map(({ port }) => port));
          for (let i = 0; i < 5; i += 1) await http.exchange(target, call());
          const after = received.slice(6).map(({ port }) => port);
          expect(after.filter((port) => before.has(port))).toEqual([]);
        });
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
  it('that got one of several tries may have acted on it', async () => {
    let tries = 0;
    const server = createServer((socket) => {
      socket.once('data', () => {
        tries += 1;
        // The first try is cut after it arrived; then nobody listens.
        server.close();
        socket.destroy();
      });
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    await withClient({}, async (http) => {
      const cut = http.exchange(target(`http://127.0.0.1:${port}`), call());
      const error = await expectCode(cut, 'WC_ENGINE_UNREACHABLE');
      expect(tries).toBe(1);
      expect(error.details).toMatchObject({ sent: true, cause: 'ECONNREFUSED', attempts: 4 });
    });
  });

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
