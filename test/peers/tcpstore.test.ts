import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { openRendezvous } from '../../src/transports/nccl/rendezvous/index.js';
import { connectStore } from '../../src/transports/nccl/store/client.js';
import { startStoreServer } from '../../src/transports/nccl/store/server.js';
import { lane } from './support/lane.js';
import { type Outcome, run } from './support/process.js';
import { vllmPackages } from './support/venv.js';

const SCRIPT = fileURLToPath(new URL('tcpstore_clients.py', import.meta.url));
const ID = Uint8Array.from({ length: 128 }, (_, i) => (i * 37 + 200) & 255);

/** Two workers of one engine, one of another. */
const EXPECTED = [
  { rank: 1, engine: 'http://127.0.0.1:8000' },
  { rank: 2, engine: 'http://127.0.0.1:8000' },
  { rank: 3, engine: 'http://127.0.0.1:8001' },
];

function succeeded(outcomes: readonly Outcome[]): string[] {
  for (const outcome of outcomes) expect(outcome, outcome.stderr).toMatchObject({ code: 0 });
  return outcomes.map(({ stdout }) => stdout.trim().split('\n').at(-1)!);
}

await lane('tcpstore', vllmPackages('0.32.0'), ({ python }) => {
  const role = (name: string, ...args: (string | number)[]): Promise<Outcome> =>
    run(python, [SCRIPT, name, ...args.map(String)], {
      env: { GLOO_SOCKET_IFNAME: 'lo' },
      timeoutMs: 250_000,
    });

  test('two torch processes do every operation on our store', async () => {
    await using store = await startStoreServer({ host: '127.0.0.1', port: 0 });
    succeeded(await Promise.all([role('operations', store.port, 0), role('operations', store.port, 1)]));
    expect(Buffer.from(store.get('init/')!).toString()).toBe('2');
    expect(Buffer.from(store.get('/done')!).toString()).toBe('2');
  });

  test('torch workers join, and unpickle the id to the type and the bytes', async () => {
    await using meeting = await openRendezvous({
      host: '127.0.0.1',
      port: 0,
      uniqueId: ID,
      expected: EXPECTED,
      timeoutMs: 120_000,
    });
    const workers = Promise.all(EXPECTED.map(() => role('worker', meeting.port, EXPECTED.length + 1)));
    await meeting.complete();
    const hex = Buffer.from(ID).toString('hex');
    expect(succeeded(await workers)).toEqual([hex, hex, hex]);
  });

  test("vLLM's own StatelessProcessGroup takes the id, also when the store closes right after", async () => {
    const meeting = await openRendezvous({
      host: '127.0.0.1',
      port: 0,
      uniqueId: ID,
      expected: EXPECTED.slice(0, 2),
      timeoutMs: 240_000,
    });
    const workers = Promise.all([1, 2].map((rank) => role('vllm_worker', meeting.port, rank, 3)));
    await meeting.complete();
    await meeting.close();
    const hex = Buffer.from(ID).toString('hex');
    expect(succeeded(await workers)).toEqual([hex, hex]);
  });

  test('gloo groups form and reduce over our store', async () => {
    await using store = await startStoreServer({ host: '127.0.0.1', port: 0 });
    const ranks = [0, 1, 2].map((rank) => role('gloo', store.port, rank, 3));
    expect(succeeded(await Promise.all(ranks))).toEqual(['18.0', '18.0', '18.0']);
  });

  test.each(['libuv', 'legacy'])("our client joins torch's own master (%s)", async (server) => {
    const child = spawn(python, [SCRIPT, 'master', server], { stdio: ['ignore', 'pipe', 'inherit'] });
    const exited = once(child, 'exit');
    try {
      const [line] = await once(createInterface(child.stdout), 'line');
      await using client = await connectStore({ host: '127.0.0.1', port: Number(line), timeoutMs: 60_000 });
      // The master listens before it counts itself, so either may be first.
      expect([1n, 2n]).toContain(await client.join());
      expect(await client.get('broadcast_from/0/0')).toEqual(Uint8Array.from({ length: 256 }, (_, i) => i));
      await expect(client.wait(['never', 'n'], 50)).rejects.toMatchObject({ code: 'WC_RENDEZVOUS_TIMEOUT' });
      expect(await client.add('n', 5)).toBe(5n);
      await client.set('answer', Buffer.from('42'));
      await client.wait(['bye']);
      await client.set('closing', new Uint8Array(0));
      expect(await exited).toEqual([0, null]);
    } finally {
      child.kill();
    }
  });
});
