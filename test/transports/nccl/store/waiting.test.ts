import { expect, test } from 'vitest';
import type { StoreRequest } from '../../../../src/transports/nccl/store/request.js';
import { encodeRequest } from '../../../../src/transports/nccl/store/request.js';
import { RawClient, withStore } from './raw-client.js';

const hex = (request: StoreRequest): string => encodeRequest(request).toString('hex');
const wait = (...keys: string[]): string => hex({ kind: 'wait', keys });
const set = (key: string): string => hex({ kind: 'set', key, value: Uint8Array.of(1) });
const push = (key: string): string => hex({ kind: 'queuePush', key, value: Uint8Array.of(1) });
const barrier = (key: string, size: number): string => hex({ kind: 'barrier', key, worldSize: BigInt(size) });
const compareSet = (key: string, expected: string): string =>
  hex({ kind: 'compareSet', key, expected: Buffer.from(expected), desired: Buffer.from('v') });
const add = (key: string): string => hex({ kind: 'add', key, delta: 1n });
const remove = (key: string): string => hex({ kind: 'deleteKey', key });
const append = (key: string): string => hex({ kind: 'append', key, value: Uint8Array.of(1) });
const multiSet = (key: string): string =>
  hex({ kind: 'multiSet', entries: [{ key, value: Uint8Array.of(1) }] });

const CANCEL = '0c';
const SILENT = { hex: '', open: true };
const WOKEN = { hex: '00', open: true };

const withClients = (count: number, body: (...clients: RawClient[]) => Promise<void>): Promise<void> =>
  withStore(async (store) => {
    const clients = await Promise.all(Array.from({ length: count }, () => RawClient.connect(store.port)));
    await body(...clients);
  });

/** Sends, and waits until the store has done it. */
async function send(client: RawClient, ...requests: string[]): Promise<void> {
  await client.send(requests.join(''));
  await client.settle();
}

test.each([
  ['set', set('/k')],
  ['add', add('/k')],
  ['append', append('/k')],
  ['multi_set', multiSet('/k')],
  ['queue_push', push('/k')],
  ['a compare_set that creates', compareSet('/k', '')],
  ['a complete barrier', barrier('/k', 1)],
])('%s wakes who waits for the key', (_, request) =>
  withClients(2, async (a, b) => {
    await send(a, wait('/k'));
    await send(b, request);
    expect(await a.settle()).toEqual(WOKEN);
  }),
);

test.each([
  ['a compare_set that fails', compareSet('/k', 'other')],
  ['a deletion', remove('/k')],
  ['an incomplete barrier', barrier('/k', 2)],
])('%s wakes nobody', (_, request) =>
  withClients(2, async (a, b) => {
    await send(a, wait('/k'));
    await b.send(request);
    expect((await b.settle()).open).toBe(true);
    expect(await a.settle()).toEqual(SILENT);
  }),
);

test('a wait ends when each of its missing keys was written once, even if one was deleted since', () =>
  withClients(2, async (a, b) => {
    await send(a, wait('/x', '/y', '/x'));
    await send(b, set('/x'), set('/x'), remove('/x'));
    expect(await a.settle()).toEqual(SILENT);
    await send(b, set('/y'));
    expect(await a.settle()).toEqual(WOKEN);
  }));

test('after a cancel no late STOP_WAITING arrives, and one that was sent before comes first', () =>
  withClients(2, async (a, b) => {
    await a.send(wait('/k') + CANCEL);
    expect(await a.settle()).toEqual({ hex: '01', open: true });
    await send(b, set('/k'));
    expect(await a.settle()).toEqual(SILENT);
    await a.send(wait('/k') + CANCEL);
    expect(await a.settle()).toEqual({ hex: '0001', open: true });
  }));

test('a second wait replaces the first', () =>
  withClients(2, async (a, b) => {
    await send(a, wait('/first'), wait('/second'));
    await send(b, set('/first'));
    expect(await a.settle()).toEqual(SILENT);
    await send(b, set('/second'));
    expect(await a.settle()).toEqual(WOKEN);
  }));

test('a client that waits for its own key reads the reply of its ADD before it is woken', () =>
  withClients(1, async (a) => {
    await a.send(wait('/own') + add('/own'));
    expect(await a.settle()).toEqual({ hex: '010000000000000000', open: true });
  }));

test('a pushed item wakes one waiter, the one that came first', () =>
  withClients(3, async (a, b, c) => {
    await send(a, wait('/q'));
    await send(b, wait('/q'));
    await send(c, push('/q'));
    expect([await a.settle(), await b.settle()]).toEqual([WOKEN, SILENT]);
    await send(c, push('/q'));
    expect([await a.settle(), await b.settle()]).toEqual([SILENT, WOKEN]);
  }));

test('a waiter that a push woke is not woken again by the queue it left', () =>
  withClients(2, async (a, b) => {
    await send(a, wait('/q'));
    await send(b, push('/q'));
    expect(await a.settle()).toEqual(WOKEN);
    await send(a, wait('/other'));
    await send(b, push('/q'));
    expect(await a.settle()).toEqual(SILENT);
  }));

test('a wait for a queue that holds items and a missing key ends when the key is set', () =>
  withClients(2, async (a, b) => {
    await send(b, push('/q'));
    await send(a, wait('/q', '/k'));
    await send(b, set('/k'));
    expect(await a.settle()).toEqual(WOKEN);
  }));

test('a barrier lets all pass when the last arrives, and everyone who comes later', () =>
  withClients(4, async (a, b, c, d) => {
    await send(a, barrier('/b', 3));
    await send(b, barrier('/b', 3));
    expect([await a.settle(), await b.settle()]).toEqual([SILENT, SILENT]);
    await c.send(barrier('/b', 3));
    expect(await Promise.all([a, b, c].map((client) => client.settle()))).toEqual([WOKEN, WOKEN, WOKEN]);
    await d.send(barrier('/b', 3));
    expect(await d.settle()).toEqual(WOKEN);
  }));

test('an arrival at a barrier counts although it was cancelled', () =>
  withClients(2, async (a, b) => {
    await send(a, barrier('/b', 2), CANCEL);
    await b.send(barrier('/b', 2));
    expect(await b.settle()).toEqual(WOKEN);
    expect(await a.settle()).toEqual(SILENT);
  }));

test('a barrier on a value that is no integer closes the connection', () =>
  withClients(1, async (a) => {
    await send(a, hex({ kind: 'set', key: '/b', value: Buffer.from('x') }));
    await a.send(barrier('/b', 2));
    expect((await a.settle()).open).toBe(false);
  }));

test('a key and a queue of one name do not touch each other', () =>
  withClients(1, async (a) => {
    await a.send(
      set('/k') +
        push('/k') +
        remove('/k') +
        hex({ kind: 'queueLength', key: '/k' }) +
        hex({ kind: 'numKeys' }),
    );
    expect((await a.settle()).hex).toBe('0100000000000000' + '0100000000000000' + '0000000000000000');
  }));

test('a client that dies while it waits is forgotten', () =>
  withStore(async (store) => {
    const [a, b] = await Promise.all([RawClient.connect(store.port), RawClient.connect(store.port)]);
    await send(a, wait('/k'));
    const left = new Promise((resolve) => store.once('leave', resolve));
    a.destroy();
    await left;
    await send(b, set('/k'));
    expect(store.connections).toBe(1);
  }));

test('waiting in process ends by the key, by its deadline, by its signal and by closing', () =>
  withStore(async (store) => {
    const client = await RawClient.connect(store.port);
    const set1 = store.waitFor(['/k'], { timeoutMs: 10_000 });
    await send(client, set('/k'));
    await set1;
    await store.waitFor(['/k'], { timeoutMs: 10_000 });
    await expect(store.waitFor(['/never'], { timeoutMs: 5 })).rejects.toMatchObject({
      code: 'WC_RENDEZVOUS_TIMEOUT',
    });
    await expect(
      store.waitFor(['/never'], { timeoutMs: 10_000, signal: AbortSignal.abort() }),
    ).rejects.toMatchObject({ code: 'WC_RENDEZVOUS_ABORTED' });
    const late = store.waitFor(['/never'], { timeoutMs: 10_000 });
    const rejected = expect(late).rejects.toMatchObject({ code: 'WC_RENDEZVOUS_ABORTED' });
    await store.close();
    await rejected;
  }));
