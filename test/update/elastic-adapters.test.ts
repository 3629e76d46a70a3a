/** Elastic fleets that serve an adapter: a newcomer is given the fleet's before it counts as ready, found by DNS or by Dynamo. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import type { ElasticPool } from '../../src/fleet/elastic/pool.js';
import {
  type ReferenceEngine,
  startReferenceEngine,
  startReferencePrimeRl,
  writeTinyModel,
} from '../../src/testing/index.js';
import type { FleetSession } from '../../src/update/index.js';
import { withDynamo } from './dynamo-bench.js';
import { connectFinding } from './elastic-session.js';

vi.setConfig({ testTimeout: 180_000 });

/** Looks only when a test does. */
const POOL = { pool: { intervalMs: 3_600_000 } };

async function withModel(body: (model: string) => Promise<void>): Promise<void> {
  const model = await mkdtemp(join(tmpdir(), 'weightcast-elastic-'));
  try {
    await writeTinyModel(model, { seed: 1 });
    await body(model);
  } finally {
    await rm(model, { recursive: true });
  }
}

async function adapterIn(directory: string, name: string): Promise<string> {
  const adapter = join(directory, name);
  await mkdir(adapter);
  await writeFile(join(adapter, 'adapter_config.json'), '{}');
  await writeFile(join(adapter, 'adapter_model.safetensors'), '');
  return adapter;
}

function poolOf({ pool }: FleetSession): ElasticPool {
  if (pool === null) throw new Error('no pool');
  return pool;
}

/** A look begins the sync, and a hold waits for its end. */
async function synced(pool: ElasticPool): Promise<void> {
  (await pool.hold())();
  await pool.look();
}

const loadsOf = async (engine: ReferenceEngine, path: string): Promise<string[]> =>
  (await engine.exchanges())
    .filter((exchange) => exchange.path === path)
    .map(({ requestBody }) => (JSON.parse(requestBody) as { lora_name: string }).lora_name);

test.each([
  ['vllm', '/v1/load_lora_adapter'],
  ['prime-rl', '/load_lora_adapter'],
] as const)(
  'a %s server that comes behind the name is ready once it has the fleet’s adapter, and again after a restart',
  async (backend, route) => {
    await withModel(async (a) => {
      const start = (port = 0) => {
        const options = { model: a, port, workersInEngine: true };
        return backend === 'vllm' ? startReferenceEngine(options) : startReferencePrimeRl(options);
      };
      await using first = await start();
      const there = [first.url];
      await using session = await connectFinding({ backend, ...POOL }, () => there);
      const pool = poolOf(session);
      const one = await session.loadAdapter(await adapterIn(a, 'one'), { name: 'policy', version: '1' });
      await pool.look();
      expect(pool.readyUrls).toEqual([first.url]);

      const late = await start();
      there.push(late.url);
      await pool.look();
      // It answers, and lacks the adapter that requests name.
      expect(new Map(pool.engines.map(({ url, state }) => [url, state]))).toEqual(
        new Map([
          [first.url, 'ready'],
          [late.url, 'syncing'],
        ]),
      );
      expect(pool.readyUrls).toEqual([first.url]);
      await synced(pool);
      expect(new Set(pool.readyUrls)).toEqual(new Set([first.url, late.url]));
      expect(await loadsOf(late, route)).toEqual([one.servedAs]);

      // The next version goes to both; the one before is nowhere loaded again.
      const two = await session.loadAdapter(await adapterIn(a, 'two'), { name: 'policy', version: '2' });
      expect(await loadsOf(late, route)).toEqual([one.servedAs, two.servedAs]);
      await late.close();
      await using again = await start(late.port);
      // One failed look may come in between; the answer after it tells.
      await pool.look();
      await pool.look();
      await synced(pool);
      expect(new Set(pool.readyUrls)).toEqual(new Set([first.url, again.url]));
      expect(await loadsOf(again, route)).toEqual([two.servedAs]);
    });
  },
);

test('a name that answers nothing for a moment, or not at all, empties no fleet that serves an adapter', async () => {
  await withModel(async (a) => {
    await using first = await startReferenceEngine({ model: a, workersInEngine: true });
    await using second = await startReferenceEngine({ model: a, workersInEngine: true });
    const both = [first.url, second.url].sort();
    let answer = (): readonly string[] => both;
    await using session = await connectFinding(POOL, () => answer());
    const pool = poolOf(session);
    const adapter = await adapterIn(a, 'one');
    const { servedAs } = await session.loadAdapter(adapter, { name: 'policy', version: '1' });
    await pool.look();
    expect(pool.readyUrls).toEqual(both);
    const flaps = [
      () => [],
      () => {
        throw new Error('queryA ETIMEOUT engines.test');
      },
      () => [second.url],
    ];
    for (const flap of flaps) {
      answer = flap;
      await pool.look();
      expect(pool.readyUrls).toEqual(both);
      answer = () => both;
      await pool.look();
      expect(pool.readyUrls).toEqual(both);
    }
    // Nobody was taken for a newcomer meanwhile.
    for (const engine of [first, second]) {
      expect(await loadsOf(engine, '/v1/load_lora_adapter')).toEqual([servedAs]);
    }
  });
});

test('a worker that Dynamo lists anew is ready once it has the fleet’s weights and its adapter', async () => {
  await withDynamo({ engines: 1 }, async ({ dynamo, workers, connect, a, b }) => {
    const session = await connect({
      ...{ engines: [], discover: [`dynamo=${dynamo.url},rl=${dynamo.discoveryUrl}`], ...POOL },
      transport: 'filesystem',
    });
    await session.update(b, { version: '7' });
    const { servedAs } = await session.loadAdapter(await adapterIn(a, 'one'), {
      name: 'policy',
      version: '1',
    });
    const pool = poolOf(session);
    const stateOf = (wanted: string | null | undefined) =>
      pool.engines.find(({ url }) => url === wanted)?.state;
    await pool.look();
    expect(stateOf(workers[0]?.systemUrl)).toBe('ready');

    const late = await dynamo.add();
    await pool.look();
    expect(stateOf(late.systemUrl)).toBe('syncing');
    await synced(pool);
    expect(stateOf(late.systemUrl)).toBe('ready');
    expect(await late.state()).toMatchObject({ version: '7', paused: false });
    expect(await loadsOf(late.engine, '/engine/load_lora')).toEqual([servedAs]);
  });
});
