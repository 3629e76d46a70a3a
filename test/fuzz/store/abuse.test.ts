import { afterAll, beforeAll, expect, test } from 'vitest';
import { openRendezvous, type Rendezvous } from '../../../src/transports/nccl/rendezvous/index.js';
import { connectStore } from '../../../src/transports/nccl/store/client.js';
import { RENDEZVOUS_LIMITS } from '../../../src/transports/nccl/store/limits.js';
import { encodeRequest, type StoreRequest } from '../../../src/transports/nccl/store/request.js';
import { Attacker } from './attacker.js';
import { measured } from './measure.js';

const WORKERS = 16;
const VALUE = RENDEZVOUS_LIMITS.valueBytes;
const MiB = 1024 * 1024;
/** What the rendezvous may hold for its clients, its connections, and room for a garbage collector that comes late. */
const MOST_RSS = 384 * MiB;
/** An overloaded machine stalls by itself; what is caught here are stalls without end. */
const MOST_STALL_MS = 2_000;
/** The attacker hears of a closed connection when its own event loop comes to it. */
const CLOSED = { timeout: 30_000, interval: 50 };
const GREETING = '00cef7853c';
const hex = (request: StoreRequest): string => encodeRequest(request).toString('hex');
const rows: string[] = [];

function open(): Promise<Rendezvous> {
  return openRendezvous({
    host: '127.0.0.1',
    port: 0,
    uniqueId: new Uint8Array(128).fill(7),
    expected: Array.from({ length: WORKERS }, (_, i) => ({ rank: i + 1, engine: 'http://127.0.0.1:1' })),
    timeoutMs: 60_000,
  });
}

/** What a worker of vLLM does. */
async function work(port: number): Promise<void> {
  await using client = await connectStore({ host: '127.0.0.1', port, timeoutMs: 60_000 });
  await client.join();
  expect(await client.get('broadcast_from/0/0')).toHaveLength(247);
}

/** Attacks a rendezvous, and lets honest workers meet in the middle of it. */
async function attacked(
  name: string,
  attack: (attacker: Attacker, port: number) => Promise<unknown>,
  after: (attacker: Attacker) => Promise<void> | void = () => {},
): Promise<void> {
  await using attacker = new Attacker();
  await using meeting = await open();
  let metMs = 0;
  const cost = await measured(async () => {
    await attack(attacker, meeting.port);
    const began = performance.now();
    const workers = Array.from({ length: WORKERS }, () => work(meeting.port));
    await Promise.all([meeting.complete(), ...workers]);
    metMs = performance.now() - began;
  });
  await after(attacker);
  const grown = Math.round(cost.rssGrowth / MiB);
  rows.push(
    `${name}: met in ${Math.round(metMs)} ms, longest stall ${Math.round(cost.stallMs)} ms, rss +${grown} MiB`,
  );
  expect(cost.rssGrowth).toBeLessThan(MOST_RSS);
  expect(cost.stallMs).toBeLessThan(MOST_STALL_MS);
}

beforeAll(async () => {
  await using meeting = await open(); // compiled code and warm buffers are no cost of an attack
  await Promise.all([meeting.complete(), ...Array.from({ length: WORKERS }, () => work(meeting.port))]);
});
afterAll(() => {
  process.stdout.write(`${rows.join('\n')}\n`);
});

test('ten thousand connections that greet and stay', { timeout: 120_000 }, () =>
  attacked(
    '10,000 greeted connections',
    (attacker, port) => attacker.run('flood', { port, count: 10_000, hex: GREETING }),
    (attacker) => expect.poll(async () => (await attacker.tally()).closed, CLOSED).toBeGreaterThan(5_000),
  ),
);

test(
  'thousands of connections that say nothing, half a preamble, or a byte at a time',
  { timeout: 120_000 },
  () =>
    attacked('silent and slow greetings', async (attacker, port) => {
      await attacker.run('flood', { port, count: 2_000 });
      await attacker.run('flood', { port, count: 2_000, hex: '00cef7' });
      await attacker.run('trickle', {
        port,
        count: 200,
        hex: GREETING + hex({ kind: 'set', key: '/slow', value: new Uint8Array(4096) }),
        everyMs: 20,
      });
    }),
);

test('thousands of half-sent requests, each of a length that is allowed', { timeout: 120_000 }, () => {
  const whole = hex({ kind: 'set', key: '/half', value: new Uint8Array(VALUE) });
  return attacked('half-sent values', (attacker, port) =>
    attacker.run('flood', { port, count: 3_000, hex: GREETING + whole.slice(0, VALUE) }),
  );
});

test('lengths that promise more than any memory', { timeout: 120_000 }, () =>
  attacked(
    'huge length prefixes',
    (attacker, port) => attacker.run('flood', { port, count: 2_000, hex: `${GREETING}01ffffffffffffff7f` }),
    (attacker) => expect.poll(async () => (await attacker.tally()).open, CLOSED).toBe(0),
  ),
);

test('keys and values without end', { timeout: 120_000 }, () =>
  attacked('a full store', async (attacker, port) => {
    await attacker.run('fill', { port, keyBytes: 8_000, valueBytes: VALUE, rounds: 3 });
    await attacker.run('fill', { port, keyBytes: 40, valueBytes: 0, rounds: 3 });
  }),
);

test('a value that grows a byte at a time', { timeout: 120_000 }, () => {
  const value = hex({ kind: 'set', key: '/big', value: new Uint8Array(VALUE / 2) });
  const append = hex({ kind: 'append', key: '/big', value: Uint8Array.of(1) });
  return attacked('appends', async (attacker, port) => {
    await attacker.run('flood', { port, count: 1, hex: GREETING + value });
    await attacker.run('flood', { port, count: 50, hex: GREETING });
    await attacker.run('pour', { hex: append.repeat(200) });
  });
});

test('clients that ask for big values and never read', { timeout: 120_000 }, () => {
  const value = hex({ kind: 'set', key: '/big', value: new Uint8Array(VALUE) });
  const get = hex({ kind: 'get', key: '/big' });
  return attacked('deaf clients, big answers', async (attacker, port) => {
    await attacker.run('flood', { port, count: 1, hex: GREETING + value });
    await attacker.run('flood', { port, count: 500, hex: GREETING + get.repeat(100), deaf: true });
  });
});

test('clients that ask for a byte a million times and never read', { timeout: 120_000 }, () =>
  attacked('deaf clients, tiny answers', async (attacker, port) => {
    await attacker.run('flood', { port, count: 20, hex: GREETING, deaf: true });
    await attacker.run('pour', { hex: hex({ kind: 'cancelWait' }).repeat(65_536) });
  }),
);

test('hundreds of clients that send requests as fast as they can', { timeout: 120_000 }, () =>
  attacked('pouring clients', async (attacker, port) => {
    await attacker.run('flood', { port, count: 500, hex: GREETING });
    await attacker.run('pour', { hex: hex({ kind: 'numKeys' }).repeat(4_096) });
  }),
);

test('requests as large as they may be: thousands of keys to wait for, to list, to check', {
  timeout: 120_000,
}, () => {
  const keys = Array.from({ length: RENDEZVOUS_LIMITS.keysPerRequest }, (_, i) => `/never/${i}`);
  const wait = hex({ kind: 'wait', keys });
  return attacked('large requests', async (attacker, port) => {
    await attacker.run('fill', { port, keyBytes: 20, valueBytes: 0, rounds: 1 });
    await attacker.run('flood', { port, count: 50, hex: GREETING });
    await attacker.run('pour', { hex: wait + hex({ kind: 'listKeys' }) + hex({ kind: 'check', keys }) });
  });
});

test('waiters by the thousand, on keys that never come and on the one that does', { timeout: 120_000 }, () =>
  attacked('4,000 waiters', async (attacker, port) => {
    await attacker.run('flood', {
      port,
      count: 2_000,
      hex: GREETING + hex({ kind: 'wait', keys: ['/never'] }),
    });
    const wanted = hex({ kind: 'wait', keys: ['/broadcast_from/0/0'] });
    await attacker.run('flood', { port, count: 2_000, hex: GREETING + wanted });
  }),
);

test('hosts that vanish without a word, some with answers on the way', { timeout: 120_000 }, () =>
  attacked('a frozen host', async (attacker, port) => {
    const get = hex({ kind: 'listKeys' });
    await attacker.run('flood', { port, count: 1_000, hex: GREETING + get });
    attacker.freeze();
  }),
);

test('clients that spoil the count of workers or the unique id', { timeout: 120_000 }, () =>
  attacked(
    'writers of reserved keys',
    async (attacker, port) => {
      const value = new Uint8Array(3);
      for (const request of [
        { kind: 'set', key: 'init/', value },
        { kind: 'deleteKey', key: 'init/' },
        { kind: 'append', key: 'init/', value },
        { kind: 'set', key: '/broadcast_from/0/0', value },
        {
          kind: 'multiSet',
          entries: [
            { key: '/ok', value },
            { key: 'init/', value },
          ],
        },
      ] as const) {
        await attacker.run('flood', { port, count: 1, hex: GREETING + hex(request) });
      }
    },
    async (attacker) => expect((await attacker.tally()).closed).toBe(5),
  ),
);
