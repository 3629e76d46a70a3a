import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { connectStore } from '../../../../src/transports/nccl/store/client.js';
import { startStoreServer } from '../../../../src/transports/nccl/store/server.js';
import { withStore } from './raw-client.js';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

async function withServer(
  onConnection: (socket: Socket, count: number) => void,
  body: (port: number, server: Server) => Promise<void>,
): Promise<void> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    socket.on('error', () => {});
    onConnection(socket, sockets.add(socket).size);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    await body((server.address() as { port: number }).port, server);
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
  }
}

const options = (port: number) => ({ host: '127.0.0.1', port, timeoutMs: 10_000 });

test('clients join, set, get, add and wait; keys carry the slash that torch puts before them', () =>
  withStore(async (store) => {
    const [a, b] = await Promise.all([connectStore(options(store.port)), connectStore(options(store.port))]);
    expect([await a.join(), await b.join()]).toEqual([1n, 2n]);
    const late = b.get('k');
    await a.set('k', bytes('välue'));
    expect(await late).toEqual(bytes('välue'));
    expect(store.get('/k')).toEqual(bytes('välue'));
    expect(await a.add('n', 5)).toBe(5n);
    expect(await b.add('n', -7n)).toBe(-2n);
    await b.wait(['k', 'n']);
    expect(Buffer.from((await b.get('n'))!).toString()).toBe('-2');
    await a.set('empty', new Uint8Array(0));
    expect(await a.get('empty')).toHaveLength(0);
    await Promise.all([a.close(), a.close(), b.close()]);
    await expect(a.get('k')).rejects.toMatchObject({ code: 'WC_RENDEZVOUS_PROTOCOL' });
  }));

test('operations of one client run one after another', () =>
  withStore(async (store) => {
    await using client = await connectStore(options(store.port));
    const sums = await Promise.all(Array.from({ length: 50 }, () => client.add('n', 1)));
    expect(sums).toEqual(Array.from({ length: 50 }, (_, i) => BigInt(i + 1)));
  }));

test('after a timed-out wait the connection stays usable', () =>
  withStore(async (store) => {
    await using client = await connectStore(options(store.port));
    await expect(client.get('later', 5)).rejects.toMatchObject({ code: 'WC_RENDEZVOUS_TIMEOUT' });
    store.set('/later', bytes('now'));
    expect(await client.get('later')).toEqual(bytes('now'));
  }));

test('a wait that is answered while it is being cancelled has succeeded', () =>
  withServer(
    (socket) => {
      socket.on('data', (chunk) => {
        if (chunk[0] === 0x00) socket.write(chunk.subarray(6, 10)); // the greeting
        if (chunk[0] === 0x0c) socket.write(Uint8Array.of(0, 1));
      });
    },
    async (port) => {
      await using client = await connectStore(options(port));
      await client.wait(['k'], 5);
    },
  ));

test('VALIDATE and PING leave in one write', () =>
  withServer(
    (socket) => {
      socket.once('data', (chunk) => socket.write(chunk.length === 10 ? chunk.subarray(6) : 'no!!'));
    },
    async (port) => {
      await (await connectStore({ ...options(port), timeoutMs: 2_000 })).close();
    },
  ));

test('it keeps trying until the store listens', async () => {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as { port: number };
  await new Promise((resolve) => probe.close(resolve));
  const connecting = connectStore(options(port));
  const started = new Promise((resolve) => setImmediate(resolve));
  await started;
  const store = await startStoreServer({ host: '127.0.0.1', port });
  await (await connecting).close();
  await store.close();
});

test('it tries again after a broken connection and after a wrong echo', () => {
  const counts: number[] = [];
  return withServer(
    (socket, count) => {
      counts.push(count);
      if (count === 1) socket.destroy();
      else socket.once('data', (chunk) => socket.write(count === 2 ? 'oops' : chunk.subarray(6)));
    },
    async (port) => {
      await (await connectStore(options(port))).close();
      expect(counts).toEqual([1, 2, 3]);
    },
  );
});

test('it gives up at the deadline and says why', async () => {
  await expect(connectStore({ host: '127.0.0.1', port: 1, timeoutMs: 50 })).rejects.toMatchObject({
    code: 'WC_RENDEZVOUS_TIMEOUT',
    cause: { code: 'ECONNREFUSED' },
  });
  await withServer(
    () => {},
    (port) =>
      expect(connectStore({ host: '127.0.0.1', port, timeoutMs: 50 })).rejects.toMatchObject({
        code: 'WC_RENDEZVOUS_TIMEOUT',
      }),
  );
});

test('an abort ends connecting and waiting', () =>
  withStore(async (store) => {
    const early = new AbortController();
    const connecting = connectStore({ host: '127.0.0.1', port: 1, timeoutMs: 10_000, signal: early.signal });
    early.abort(new Error('enough'));
    await expect(connecting).rejects.toMatchObject({
      code: 'WC_RENDEZVOUS_ABORTED',
      cause: { message: 'enough' },
    });
    const late = new AbortController();
    const client = await connectStore({ ...options(store.port), signal: late.signal });
    const waiting = client.wait(['never']);
    late.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'WC_RENDEZVOUS_ABORTED' });
  }));

test('a store that goes away fails whoever waits', () =>
  withStore(async (store) => {
    const client = await connectStore(options(store.port));
    const waiting = expect(client.get('never')).rejects.toMatchObject({ code: 'WC_RENDEZVOUS_PROTOCOL' });
    await store.close();
    await waiting;
  }));

test('a store that never answers a cancel, or answers nonsense, is left', async () => {
  for (const answer of [undefined, 7]) {
    await withServer(
      (socket) => {
        socket.on('data', (chunk) => {
          if (chunk[0] === 0x00) socket.write(chunk.subarray(6, 10));
          else if (answer !== undefined) socket.write(Uint8Array.of(answer));
        });
      },
      async (port) => {
        await using client = await connectStore(options(port));
        await expect(client.wait(['k'], 5)).rejects.toMatchObject({ phase: 'rendezvous' });
        await expect(client.add('n', 1)).rejects.toMatchObject({ phase: 'rendezvous' });
      },
    );
  }
});
