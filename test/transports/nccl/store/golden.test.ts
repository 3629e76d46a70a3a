import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { StoreServer } from '../../../../src/transports/nccl/store/server.js';
import { RawClient, withStore } from './raw-client.js';

interface Vector {
  readonly op: string;
  readonly steps: readonly { readonly c2s?: string; readonly s2c?: string; readonly note?: string }[];
}

const vectors = JSON.parse(
  readFileSync(new URL('../../../vectors/tcpstore-vectors.json', import.meta.url), 'utf8'),
)['torch_2.13_libuv'] as readonly Vector[];

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

/** What the recording's second client did while the first one waited; the vectors describe it in words. */
const OTHER_CLIENT: Readonly<Record<string, (store: StoreServer, other: RawClient) => Promise<void> | void>> =
  {
    wait_late_two_keys: (store) => {
      store.set('/late1', text('x'));
      store.set('/late2', text('y'));
    },
    get_late: (store) => store.set('/lateg', text('val')),
    get_late_add: (store) => void store.add('/latea', 3),
    queue_pop_late: (_, other) => other.send('0e02000000000000002f7104000000000000006c617465'),
    barrier_world2_first: (_, other) => other.send('1205000000000000002f626172320200000000000000'),
  };

/** Keys in hash order in the recording, in order of creation here. */
const sortedKeys = (hex: string): string[] => {
  const bytes = Buffer.from(hex, 'hex');
  const keys: string[] = [];
  for (let at = 8; at < bytes.length; ) {
    const length = Number(bytes.readBigUInt64LE(at));
    keys.push(bytes.toString('latin1', at + 8, at + 8 + length));
    at += 8 + length;
  }
  return [`count ${bytes.readBigUInt64LE(0)}`, ...keys.sort()];
};

test('every recorded exchange of torch 2.13 with its own server happens byte for byte with ours', async () => {
  expect(vectors).toHaveLength(54);
  await withStore(async (store) => {
    const other = await RawClient.connect(store.port);
    let client = await RawClient.connect(store.port, '');
    for (const { op, steps } of vectors) {
      if (op.startsWith('connect') || op === 'clone') client = await RawClient.connect(store.port, '');
      for (const [index, { c2s, s2c }] of steps.entries()) {
        if (c2s !== undefined) await client.send(c2s);
        if (c2s !== undefined && index === 0) {
          const act = OTHER_CLIENT[op];
          if (act !== undefined) {
            expect(await client.settle(), `${op}: waits`).toEqual({ hex: '', open: true });
            await act(store, other);
          }
        }
        if (s2c === undefined) continue;
        const received = await client.receive(s2c.length / 2);
        if (op === 'list_keys') expect(sortedKeys(received), op).toEqual(sortedKeys(s2c));
        else expect(received, op).toBe(s2c);
      }
      expect(await client.settle(), `${op}: nothing more`).toEqual({ hex: '', open: true });
    }
  });
});
