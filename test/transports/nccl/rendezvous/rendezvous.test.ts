import { once } from 'node:events';
import { createConnection, createServer } from 'node:net';
import { expect, test } from 'vitest';
import { WeightcastError } from '../../../../src/errors.js';
import { openRendezvous, type RendezvousOptions } from '../../../../src/transports/nccl/rendezvous/index.js';
import { pickleUniqueId } from '../../../../src/transports/nccl/rendezvous/unique-id.js';
import { connectStore, type StoreClient } from '../../../../src/transports/nccl/store/client.js';

const ID = Uint8Array.from({ length: 128 }, (_, i) => 255 - i);
const KEY = 'broadcast_from/0/0';

const options = (workers: number, more: Partial<RendezvousOptions> = {}): RendezvousOptions => ({
  host: '127.0.0.1',
  port: 0,
  uniqueId: ID,
  expected: Array.from({ length: workers }, (_, i) => ({
    rank: i + 1,
    engine: `http://127.0.0.1:${8000 + (i >> 1)}`,
  })),
  timeoutMs: 60_000,
  ...more,
});

const connect = (port: number): Promise<StoreClient> =>
  connectStore({ host: '127.0.0.1', port, timeoutMs: 60_000 });

test('the id is published once all have joined, and it is over when all have it', async () => {
  await using meeting = await openRendezvous(options(3));
  const early = await Promise.all([connect(meeting.port), connect(meeting.port)]);
  const counts = await Promise.all(early.map((worker) => worker.join()));
  expect(new Set(counts)).toEqual(new Set([2n, 3n])); // rank 0 counted itself; two connections have no order
  const waiting = early.map((worker) => worker.get(KEY));
  const watcher = await connect(meeting.port);
  await expect(watcher.wait([KEY], 20)).rejects.toMatchObject({ code: 'WC_RENDEZVOUS_TIMEOUT' });
  const last = await connect(meeting.port);
  await last.join();
  expect(await Promise.all(waiting)).toEqual([pickleUniqueId(ID), pickleUniqueId(ID)]);
  let over = false;
  const complete = meeting.complete().then(() => {
    over = true;
  });
  await watcher.get(KEY); // it never joined, so it does not count
  expect(over).toBe(false);
  await last.get(KEY);
  await complete;
});

test('an id is made when all have joined, not before', async () => {
  let made = 0;
  const uniqueId = async (): Promise<Uint8Array> => {
    made++;
    return ID;
  };
  await using meeting = await openRendezvous(options(2, { uniqueId }));
  await using first = await connect(meeting.port);
  await first.join();
  expect(made).toBe(0);
  await using second = await connect(meeting.port);
  await second.join();
  expect(await Promise.all([first.get(KEY), second.get(KEY)])).toEqual([
    pickleUniqueId(ID),
    pickleUniqueId(ID),
  ]);
  await meeting.complete();
  expect(made).toBe(1);
});

test('an id that can not be made ends it with that error', async () => {
  const error = new WeightcastError('WC_NATIVE_LIMIT', 'no more of them');
  const meeting = await openRendezvous(options(1, { uniqueId: () => Promise.reject(error) }));
  await using worker = await connect(meeting.port);
  await worker.join();
  await expect(meeting.complete()).rejects.toMatchObject({ code: 'WC_NATIVE_LIMIT' });
  await meeting.close();
});

test('an id that is not made in time is blamed for it, by its maker where he says something', async () => {
  const timeoutMs = 3_000;
  const why = new WeightcastError('WC_NATIVE_STUCK', 'ncclGetUniqueId has not returned');
  const errorWith = async (uniqueId: () => Promise<Uint8Array>): Promise<unknown> => {
    await using meeting = await openRendezvous(options(1, { uniqueId, timeoutMs }));
    await using worker = await connect(meeting.port);
    await worker.join();
    return await meeting.complete().catch((error: unknown) => error);
  };
  const justAfter = performance.now() + timeoutMs + 200;
  const [named, silent] = await Promise.all([
    errorWith(() => new Promise((_, no) => setTimeout(() => no(why), justAfter - performance.now()))),
    errorWith(() => new Promise(() => {})),
  ]);
  expect(named).toMatchObject({ code: 'WC_NATIVE_STUCK', message: 'ncclGetUniqueId has not returned' });
  expect(silent).toMatchObject({
    code: 'WC_RENDEZVOUS_TIMEOUT',
    message: expect.stringContaining('1 of 1 workers joined; no unique id was made for them'),
  });
});

test('a thousand workers meet', { timeout: 60_000 }, async () => {
  await using meeting = await openRendezvous(options(1000));
  const work = async (): Promise<Uint8Array> => {
    await using client = await connect(meeting.port);
    await client.join();
    return await client.get(KEY);
  };
  const workers = Promise.all(Array.from({ length: 1000 }, work));
  await meeting.complete();
  expect(new Set((await workers).map((bytes) => Buffer.from(bytes).toString('hex'))).size).toBe(1);
});

test('a worker that lost its connection and came back counts once', async () => {
  await using meeting = await openRendezvous(options(2));
  const first = await connect(meeting.port);
  await first.join();
  await first.close();
  const again = await connect(meeting.port);
  await again.join();
  await again.join();
  await expect(again.wait([KEY], 50)).rejects.toMatchObject({ code: 'WC_RENDEZVOUS_TIMEOUT' });
  const second = await connect(meeting.port);
  await second.join();
  await Promise.all([again.get(KEY), second.get(KEY)]);
  await meeting.complete();
});

test('workers may leave as soon as they have the id', async () => {
  await using meeting = await openRendezvous(options(2));
  const workers = await Promise.all([connect(meeting.port), connect(meeting.port)]);
  for (const worker of workers) await worker.join();
  for (const worker of workers) {
    await worker.get(KEY);
    await worker.close();
  }
  await meeting.complete();
});

test('at the deadline it says who is missing, and closes everything', async () => {
  const expected = [
    { rank: 1, engine: 'http://127.0.0.1:8000' },
    { rank: 2, engine: 'http://127.0.0.2:8000' },
    { rank: 3, engine: 'http://127.0.0.2:8000' },
  ];
  const meeting = await openRendezvous(options(0, { expected, timeoutMs: 1_000 }));
  const worker = await connect(meeting.port);
  await worker.join();
  const lost = await connect(meeting.port);
  await lost.join();
  await lost.close();
  const waiting = expect(worker.get(KEY)).rejects.toMatchObject({ code: 'WC_RENDEZVOUS_PROTOCOL' });
  await expect(meeting.complete()).rejects.toMatchObject({
    code: 'WC_RENDEZVOUS_TIMEOUT',
    engine: 'http://127.0.0.2:8000',
    phase: 'rendezvous',
    message: expect.stringMatching(
      /^1 of 3 workers joined; missing: http:\/\/127\.0\.0\.2:8000 \(ranks 2-3\); 1 joined and went away \(store 127\.0\.0\.1:\d+, 1000 ms\)$/,
    ),
    details: { joined: 1, expected: 3, joinedFrom: ['127.0.0.1'], missingEngines: ['http://127.0.0.2:8000'] },
  });
  await waiting;
  await meeting.close();
});

test('engines that share an address are counted, not guessed', async () => {
  const meeting = await openRendezvous(options(4, { timeoutMs: 1_000 }));
  await (await connect(meeting.port)).join();
  await expect(meeting.complete()).rejects.toMatchObject({
    engine: null,
    message: expect.stringContaining(
      '1 of 4 workers joined; missing: 3 of the workers of http://127.0.0.1:8000 (ranks 1-2), http://127.0.0.1:8001 (ranks 3-4)',
    ),
  });
});

test('workers that joined and do not take the id are told apart', async () => {
  const meeting = await openRendezvous(options(2, { timeoutMs: 1_000 }));
  const [taker, sleeper] = await Promise.all([connect(meeting.port), connect(meeting.port)]);
  await Promise.all([taker!.join(), sleeper!.join()]);
  await taker!.get(KEY);
  await expect(meeting.complete()).rejects.toMatchObject({
    message: expect.stringContaining('2 of 2 workers joined; the unique id was published and 1 took it'),
    details: { served: 1 },
  });
});

test('abort, signal and close end it at once, with the reason as cause', async () => {
  const reason = new Error('an engine refused');
  const aborted = await openRendezvous(options(1));
  aborted.abort(reason);
  aborted.abort(new Error('later'));
  await expect(aborted.complete()).rejects.toMatchObject({ code: 'WC_RENDEZVOUS_ABORTED', cause: reason });

  const controller = new AbortController();
  const signalled = await openRendezvous(options(1, { signal: controller.signal }));
  controller.abort(reason);
  await expect(signalled.complete()).rejects.toMatchObject({ code: 'WC_RENDEZVOUS_ABORTED', cause: reason });

  const closed = await openRendezvous(options(1));
  const worker = await connect(closed.port);
  const waiting = expect(worker.get(KEY)).rejects.toMatchObject({ code: 'WC_RENDEZVOUS_PROTOCOL' });
  await Promise.all([closed.close(), closed.close()]);
  await waiting;
  await expect(closed.complete()).rejects.toMatchObject({ code: 'WC_RENDEZVOUS_ABORTED' });
});

test('no client can put another pickle in the place of the id', async () => {
  await using meeting = await openRendezvous(options(1));
  const intruder = await connect(meeting.port);
  await intruder.set(KEY, Uint8Array.of(0x80, 0x04, 0x4e, 0x2e));
  await expect(intruder.add('alive', 1)).rejects.toMatchObject({ code: 'WC_RENDEZVOUS_PROTOCOL' });
  const worker = await connect(meeting.port);
  await worker.join();
  expect(await worker.get(KEY)).toEqual(pickleUniqueId(ID));
  await meeting.complete();
});

test('a busy port is an address problem, and a wrong id is refused before anything listens', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address() as { port: number };
  await expect(openRendezvous(options(1, { port }))).rejects.toMatchObject({ code: 'WC_RENDEZVOUS_ADDRESS' });
  other.close();
  await expect(openRendezvous(options(1, { uniqueId: new Uint8Array(3) }))).rejects.toMatchObject({
    code: 'WC_NATIVE_ARGUMENT',
  });
});

test('with nobody to wait for it is over at once', async () => {
  await using meeting = await openRendezvous(options(0));
  await meeting.complete();
});

test('a rendezvous that fails says whom it refused, and why', async () => {
  await using meeting = await openRendezvous(options(1, { timeoutMs: 500 }));
  const browser = createConnection({ host: '127.0.0.1', port: meeting.port });
  browser.on('error', () => {});
  browser.write('GET / HTTP/1.1\r\n\r\n');
  await once(browser, 'close');
  const why = 'the connection does not begin as a TCPStore client of torch 2.2 or later';
  await expect(meeting.complete()).rejects.toMatchObject({
    code: 'WC_RENDEZVOUS_TIMEOUT',
    message: expect.stringContaining(`connections refused: 1, the last from 127.0.0.1: ${why}`),
    details: { refused: 1, lastRefusal: `127.0.0.1: ${why}` },
  });
});
