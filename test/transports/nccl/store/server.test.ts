import { once } from 'node:events';
import { createServer } from 'node:net';
import { expect, test } from 'vitest';
import { encodeRequest } from '../../../../src/transports/nccl/store/request.js';
import { startStoreServer } from '../../../../src/transports/nccl/store/server.js';
import { RawClient, withStore } from './raw-client.js';

const set = (key: string, value: Uint8Array): Buffer => encodeRequest({ kind: 'set', key, value });
const get = (key: string): Buffer => encodeRequest({ kind: 'get', key });
const check = (count: number): Buffer =>
  encodeRequest({ kind: 'check', keys: Array.from({ length: count }, () => '/a') });

/** Sends the bytes; says whether the store kept the connection. */
async function survives(port: number, bytes: Uint8Array): Promise<boolean> {
  const client = await RawClient.connect(port);
  await client.sendBytes(bytes);
  const { open } = await client.settle();
  client.destroy();
  return open;
}

test.each([
  ['a key of 8192 bytes', set('k'.repeat(8192), new Uint8Array(1)), true],
  ['a key of 8193 bytes', set('k'.repeat(8193), new Uint8Array(1)), false],
  ['a value of 8 MiB', set('/v', new Uint8Array(8 * 1024 * 1024)), true],
  ['a value of 8 MiB and a byte', set('/v', new Uint8Array(8 * 1024 * 1024 + 1)), false],
  ['131072 keys', check(131_072), true],
  ['131073 keys', check(131_073), false],
  ['the header alone of a key of 2^40 bytes', Buffer.from('010000000000010000', 'hex'), false],
  [
    'the header alone of a value of 2^64 - 1 bytes',
    Buffer.from('0101000000000000006bffffffffffffffff', 'hex'),
    false,
  ],
])('%s', (_, bytes, kept) =>
  withStore(async (store) => expect(await survives(store.port, bytes)).toBe(kept)),
);

test('an append beyond the value limit closes the connection and leaves the value', () =>
  withStore(
    async (store) => {
      store.set('/k', new Uint8Array(60));
      expect(
        await survives(store.port, encodeRequest({ kind: 'append', key: '/k', value: new Uint8Array(50) })),
      ).toBe(false);
      expect(store.get('/k')).toHaveLength(60);
    },
    { limits: { valueBytes: 100 } },
  ));

test('a request that grows beyond the message limit is cut off before it is whole', () =>
  withStore(
    async (store) => {
      const entries = Array.from({ length: 40 }, (_, i) => ({ key: `/${i}`, value: new Uint8Array(500) }));
      expect(await survives(store.port, encodeRequest({ kind: 'multiSet', entries }))).toBe(false);
      expect(store.get('/0')).toBeNull();
    },
    { limits: { messageBytes: 10_000 } },
  ));

test('a reply beyond the message limit is not built', () =>
  withStore(
    async (store) => {
      store.set('/k', new Uint8Array(500));
      const keys = Array.from({ length: 40 }, () => '/k');
      expect(await survives(store.port, encodeRequest({ kind: 'multiGet', keys }))).toBe(false);
    },
    { limits: { messageBytes: 10_000 } },
  ));

test('what all clients together hold is bounded: entries, waits and half-sent requests', () =>
  withStore(
    async (store) => {
      const fill = (i: number): Promise<boolean> =>
        survives(store.port, set(`/${i}`, new Uint8Array(30_000)));
      let stored = 0;
      while (stored < 100 && (await fill(stored))) stored++;
      expect(stored).toBeGreaterThanOrEqual(3);
      expect(stored * 30_000).toBeLessThan(256_000);
      const many = Array.from({ length: 800 }, (_, i) => `/missing${i}`);
      expect(await survives(store.port, encodeRequest({ kind: 'wait', keys: many }))).toBe(false);
      expect(await survives(store.port, set('/half', new Uint8Array(200_000)).subarray(0, 199_000))).toBe(
        false,
      );
      expect(await fill(0)).toBe(true); // replacing costs nothing
      expect(await survives(store.port, encodeRequest({ kind: 'deleteKey', key: '/1' }))).toBe(true);
      expect(await fill(1)).toBe(true);
    },
    { limits: { memoryBytes: 256_000 } },
  ));

test('a client that asks and never reads stops being served, while others are', () =>
  withStore(async (store) => {
    store.set('/big', new Uint8Array(4 * 1024 * 1024));
    const hog = await RawClient.connect(store.port);
    hog.pause();
    await hog.sendBytes(Buffer.concat(Array.from({ length: 1000 }, () => get('/big')))); // 4 GB of replies
    const other = await RawClient.connect(store.port);
    expect((await other.settle()).open).toBe(true);
    hog.resume();
    const reply = 8 + 4 * 1024 * 1024;
    for (let i = 0; i < 20; i++) expect(await hog.receive(reply)).toHaveLength(2 * reply);
    hog.destroy();
  }));

test('what clients wrote before they left is there, however busy the store was', () =>
  withStore(async (store) => {
    const clients = await Promise.all(Array.from({ length: 200 }, () => RawClient.connect(store.port)));
    const requests = (client: number) =>
      Array.from({ length: 40 }, (_, i) => set(`/${client}/${i}`, Uint8Array.of(i)));
    const last = clients.map((_, client) => `/${client}/39`);
    // Some milliseconds of work at once: most of them stand in line while they end.
    for (const [index, client] of clients.entries()) client.end(Buffer.concat(requests(index)));
    await store.waitFor(last, { timeoutMs: 20_000 });
    await Promise.all(clients.map((client) => client.closed()));
    await expect.poll(() => store.connections).toBe(0);
  }));

test('a client that has sent all it will still gets its answers', () =>
  withStore(async (store) => {
    store.set('/k', Uint8Array.of(7));
    const client = await RawClient.connect(store.port);
    client.end(Buffer.concat([get('/k'), get('/k')]));
    expect(await client.receive(18)).toBe('010000000000000007'.repeat(2));
    await client.closed();
  }));

test('a connection that says nothing, or half of the preamble, is closed at the deadline; a greeted one never', () =>
  withStore(
    async (store) => {
      const [silent, half, greeted] = await Promise.all(
        ['', '00cef7', '00cef7853c'].map((hex) => RawClient.connect(store.port, hex)),
      );
      await Promise.all([silent!.closed(), half!.closed()]);
      expect(await greeted!.settle()).toEqual({ hex: '', open: true });
    },
    { limits: { preambleTimeoutMs: 50 } },
  ));

test.each([
  ['torch 1.13, which has no preamble', '030500000000000000696e69742f0100000000000000'],
  ['an HTTP client', Buffer.from('GET / HTTP/1.1\r\n\r\n').toString('hex')],
  ['a wrong magic', '00cef7853d'],
])('%s is refused by closing', (_, hex) =>
  withStore(async (store) => (await RawClient.connect(store.port, hex)).closed()),
);

test('beyond the limit the oldest connection that has not joined makes room; workers that have joined stay', () =>
  withStore(
    async (store) => {
      const refusals: string[] = [];
      store.on('refused', (_, reason) => refusals.push(reason));
      const join = encodeRequest({ kind: 'add', key: 'init/', delta: 1n });
      const [worker, idle, other] = [
        await RawClient.connect(store.port),
        await RawClient.connect(store.port),
        await RawClient.connect(store.port),
      ];
      await worker.sendBytes(join);
      await Promise.all([worker, idle, other].map((client) => client.settle()));
      const late = await RawClient.connect(store.port);
      await idle.closed();
      for (const client of [worker, other, late]) expect((await client.settle()).open).toBe(true);
      for (const client of [other, late]) await client.sendBytes(join);
      for (const client of [other, late]) await client.settle();
      await (await RawClient.connect(store.port)).closed(); // all have joined
      for (const client of [worker, other, late]) expect((await client.settle()).open).toBe(true);
      expect(store.connections).toBe(3);
      expect(refusals).toEqual(Array(2).fill("the store's limit of 3 connections is reached"));
    },
    { limits: { connections: 3 } },
  ));

test.each([
  ['no preamble for 50 ms', '00cef7', null],
  ['the connection does not begin as a TCPStore client of torch 2.2 or later', '47455420', null],
  ['unknown opcode 99', undefined, Uint8Array.of(99)],
  ['a length of 9000 exceeds the limit of 8192', undefined, set('k'.repeat(9000), new Uint8Array(1))],
  [
    "the store's limit of 3 entries is reached",
    undefined,
    Buffer.concat(['/a', '/b', '/c', '/d'].map((key) => set(key, Uint8Array.of(1)))),
  ],
  ["the store's memory limit of 20000 bytes is reached", undefined, set('/big', new Uint8Array(30_000))],
  ['the key is written by the store alone', undefined, set('/mine/x', Uint8Array.of(1))],
  ['the key is only added to', undefined, encodeRequest({ kind: 'deleteKey', key: 'init/' })],
])('a refusal is told: %s', (reason, greeting, bytes) =>
  withStore(
    async (store) => {
      const refused = once(store, 'refused');
      const client = await RawClient.connect(store.port, greeting);
      if (bytes !== null) await client.sendBytes(bytes);
      expect((await refused)[1]).toBe(reason);
      await client.closed();
    },
    { limits: { preambleTimeoutMs: 50, entries: 3, memoryBytes: 20_000 }, reservedPrefix: '/mine/' },
  ),
);

test('a full store still counts, serves what this process sets, and lets workers through', () =>
  withStore(
    async (store) => {
      store.add('init/', 1);
      let stored = 0;
      while (await survives(store.port, set(`/${stored}`, new Uint8Array(500)))) stored++;
      expect(stored).toBeGreaterThan(0);
      store.set('/id', new Uint8Array(247));
      const worker = await RawClient.connect(store.port);
      await worker.sendBytes(encodeRequest({ kind: 'wait', keys: ['/later'] }));
      await worker.settle();
      store.set('/later', Uint8Array.of(1));
      expect(await worker.settle()).toEqual({ hex: '00', open: true });
      for (let count = 2; count < 12; count++) {
        await worker.sendBytes(encodeRequest({ kind: 'add', key: 'init/', delta: 1n }));
        expect((await worker.settle()).hex).toBe(`${count.toString(16).padStart(2, '0')}00000000000000`);
      }
      await worker.sendBytes(get('/id'));
      expect((await worker.settle()).hex).toHaveLength(2 * (8 + 247));
    },
    { limits: { memoryBytes: 10_000 } },
  ));

test.each([
  ['set', encodeRequest({ kind: 'set', key: '/mine/x', value: Uint8Array.of(1) })],
  ['multi_set', encodeRequest({ kind: 'multiSet', entries: [{ key: '/mine/x', value: Uint8Array.of(1) }] })],
  ['append', encodeRequest({ kind: 'append', key: '/mine/x', value: Uint8Array.of(1) })],
  ['delete_key', encodeRequest({ kind: 'deleteKey', key: '/mine/x' })],
  ['queue_push', encodeRequest({ kind: 'queuePush', key: '/mine/x', value: Uint8Array.of(1) })],
])('no client can %s under the reserved prefix', (_, bytes) =>
  withStore(
    async (store) => {
      store.set('/mine/x', Uint8Array.of(9));
      expect(await survives(store.port, bytes)).toBe(false);
      expect(store.get('/mine/x')).toEqual(Uint8Array.of(9));
      expect(await survives(store.port, get('/mine/x'))).toBe(true);
    },
    { reservedPrefix: '/mine/' },
  ),
);

test('it listens on the one address it was given', () =>
  withStore(async (store) => {
    expect(store.address).toBe('127.0.0.1');
    const elsewhere = await startStoreServer({ host: '127.0.0.2', port: store.port });
    expect(elsewhere.port).toBe(store.port); // free there, since the first did not take every address
    await elsewhere.close();
  }));

test('a busy port and a foreign address are named', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address() as { port: number };
  await expect(startStoreServer({ host: '127.0.0.1', port })).rejects.toMatchObject({
    code: 'WC_RENDEZVOUS_ADDRESS',
    message: expect.stringContaining('the port is in use'),
  });
  other.close();
  await expect(startStoreServer({ host: '192.0.2.1', port: 0 })).rejects.toMatchObject({
    code: 'WC_RENDEZVOUS_ADDRESS',
    message: expect.stringContaining('does not have that address'),
  });
});

test('closing twice is harmless and ends every connection; so does its signal', async () => {
  const controller = new AbortController();
  const store = await startStoreServer({ host: '127.0.0.1', port: 0, signal: controller.signal });
  const client = await RawClient.connect(store.port);
  controller.abort();
  await client.closed();
  await Promise.all([store.close(), store.close()]);
  await store[Symbol.asyncDispose]();
  await expect(
    startStoreServer({ host: '127.0.0.1', port: 0, signal: controller.signal }),
  ).rejects.toMatchObject({ code: 'WC_RENDEZVOUS_ABORTED' });
});

test('this process shares the keys with its clients, by their wire names', () =>
  withStore(async (store) => {
    const client = await RawClient.connect(store.port);
    const value = Uint8Array.of(1, 2, 3);
    store.set('/kéy', value);
    value.fill(0); // the store has a copy
    await client.sendBytes(get(Buffer.from('/kéy').toString('latin1')));
    expect((await client.settle()).hex).toBe('0300000000000000010203');
    expect(store.add('/n', 5)).toBe(5n);
    await client.sendBytes(encodeRequest({ kind: 'add', key: '/n', delta: -7n }));
    expect((await client.settle()).hex).toBe('feffffffffffffff');
    expect(Buffer.from(store.get('/n')!).toString()).toBe('-2');
    expect(store.get('/none')).toBeNull();
  }));
