/** Elastic fleets against reference engines: who comes, goes and restarts between two updates. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { ModelCard } from '../../src/engines/admin.js';
import type { Desired } from '../../src/fleet/elastic/state.js';
import type { Member } from '../../src/fleet/membership.js';
import { type ReferenceEngine, startReferenceEngine } from '../../src/testing/index.js';
import { connectAll } from '../../src/update/fleet-connections.js';
import { connectFleet } from '../../src/update/index.js';
import { Ledger } from '../../src/update/ledger.js';
import type { FleetMembership } from '../../src/update/membership.js';
import { isPassing, newcomerSync } from '../../src/update/newcomers.js';
import { FleetSession } from '../../src/update/session.js';
import { SessionPool } from '../../src/update/session-pool.js';
import { resolveSettings } from '../../src/update/settings.js';
import type { FleetOptions } from '../../src/update/types.js';
import { checkpointIdentity } from '../../src/weights/identity.js';
import { errorOf } from '../engines/client.js';
import { target } from '../engines/server.js';
import { postsOf, withPrimeRl } from './prime-rl-support.js';
import { answer, digestsOf, failedReport, postsTo, withBench } from './support.js';

const LOAD = '/collective_rpc';

/** A fleet whose members are what `urls` says at each look. */
async function elasticSession(urls: string[], options: Partial<FleetOptions> = {}) {
  const full: FleetOptions = {
    ...{ engines: [], elastic: ['engines:8000'], emulate: true, packedBufferBytes: 50_000 },
    ...{ pool: { intervalMs: 3_600_000 }, ...options },
  };
  const look = (): Member[] => urls.map((url) => ({ target: target(url), identity: null }));
  const source = { name: 'test', poll: async () => ({ members: look(), unusable: [] }) };
  const membership: FleetMembership = {
    found: [{ source }],
    members: async () => look(),
    notes: [],
    close: async () => {},
  };
  const settings = resolveSettings(full);
  const pool = new SessionPool(settings, membership, newcomerSync(full, connectFleet));
  return new FleetSession(settings, await connectAll(settings, membership), pool);
}

test('an engine that joins between two updates is brought to the version by files, and joins the group at the next one', async () => {
  await withBench({ engines: 2 }, async ({ engines, urls, a, b, c }) => {
    const there = urls.slice(0, 1);
    await using session = await elasticSession(there);
    const first = await session.update(b, { version: '1' });
    expect(first.engines.map(({ url }) => url)).toEqual(urls.slice(0, 1));
    const pool = session.pool;
    if (pool === null) throw new Error('no pool');
    await pool.look();
    expect(pool.readyUrls).toEqual(urls.slice(0, 1));

    there.push(urls[1] as string);
    await pool.look();
    // A look starts the sync; it is not ready while that runs.
    expect(pool.engines.map(({ state }) => state)).toEqual(['ready', 'syncing']);
    (await pool.hold())();
    await pool.look();
    expect(pool.engines.map(({ state, weightVersion }) => [state, weightVersion])).toEqual([
      ['ready', '1'],
      ['ready', '1'],
    ]);
    expect(pool.metrics()).toEqual({
      'elastic/num_servers': 2,
      'elastic/num_ready_servers': 2,
      'elastic/desired_step': 1,
    });
    expect(await answer(urls[1] as string)).toEqual(await answer(urls[0] as string));

    const second = await session.update(c, { version: '2' });
    expect(second.nccl).toMatchObject({ worldSize: 3, reused: false });
    expect(second.engines.map(({ state }) => state)).toEqual(['serving-new', 'serving-new']);
    const [one, two] = await Promise.all(engines.map(digestsOf));
    expect(one).toEqual(two);

    there.shift();
    const third = await session.update(a, { version: '3' });
    expect(third.nccl).toMatchObject({ worldSize: 2, reused: false });
    expect(third.engines.map(({ url }) => url)).toEqual(urls.slice(1));
  });
}, 240_000);

test('an engine that restarted under its address is noticed and brought back to the version', async () => {
  await withBench({ engines: 1 }, async ({ engines, urls, a, b }) => {
    await using session = await elasticSession([...urls], { transport: 'filesystem' });
    await session.update(b, { version: '1' });
    const pool = session.pool;
    if (pool === null) throw new Error('no pool');
    await pool.look();
    expect(pool.engines[0]?.state).toBe('ready');
    const port = engines[0]?.port as number;
    await engines[0]?.close();
    await using again = await startReferenceEngine({ model: a, port });
    // One failed look may come in between; the answer after it tells.
    await pool.look();
    await pool.look();
    (await pool.hold())();
    await pool.look();
    expect(pool.engines[0]).toMatchObject({ state: 'ready', weightVersion: '1' });
    expect((await again.exchanges()).some(({ path }) => path === '/collective_rpc')).toBe(true);
  });
}, 240_000);

test('an update that fails makes nobody ready, and leaves nothing to load for those who are', async () => {
  await withBench({ engines: 2, workers: 1 }, async ({ engines, urls, a, b, c }) => {
    const there = urls.slice(0, 1);
    await using session = await elasticSession(there, { transport: 'filesystem' });
    await session.update(b, { version: '1' });
    const pool = session.pool;
    if (pool === null) throw new Error('no pool');
    await pool.look();
    const loads = async () => (await postsTo(engines[0] as ReferenceEngine)).filter((p) => p === LOAD).length;
    const before = await loads();

    there.push(urls[1] as string);
    // Asked and not changed; and not even asked.
    await failedReport(session.update(join(a, 'nowhere'), { version: '2' }));
    expect(pool.readyUrls).toEqual(urls.slice(0, 1));
    await failedReport(session.update(c, { version: '2', signal: AbortSignal.abort() }));
    expect(pool.readyUrls).toEqual(urls.slice(0, 1));
    await pool.look();
    (await pool.hold())();
    await pool.look();
    expect(pool.engines.map(({ state, weightVersion }) => [state, weightVersion])).toEqual([
      ['ready', '1'],
      ['ready', '1'],
    ]);
    expect(await loads()).toBe(before);

    // An adapter makes no newcomer ready either.
    const adapter = join(a, 'adapter');
    await mkdir(adapter);
    await writeFile(join(adapter, 'adapter_config.json'), '{}');
    await writeFile(join(adapter, 'adapter_model.safetensors'), '');
    await using late = await startReferenceEngine({ model: a, workers: 1 });
    there.push(late.url);
    const running = session.loadAdapter(adapter, { name: 'policy', version: '1' });
    await expect(session.update(c)).rejects.toMatchObject({ code: 'WC_UPDATE_BUSY' });
    await running;
    expect(await postsTo(late)).toContain('/v1/load_lora_adapter');
    expect(pool.readyUrls).toEqual(urls);
  });
}, 240_000);

test('only an engine that nothing of an update has reached holds what it held before', () => {
  const engines = ['asked nothing', 'paused', 'recovered', 'lost'].map((id) => ({
    id,
    url: id,
    backend: 'vllm',
  }));
  const ledger = new Ledger(engines, () => {});
  for (const state of ['serving-old', 'paused', 'serving-old'] as const) ledger.set('paused', state);
  for (const state of ['serving-old', 'paused', 'received', 'quarantined', 'serving-old'] as const)
    ledger.set('recovered', state);
  for (const state of ['serving-old', 'paused', 'unknown'] as const) ledger.set('lost', state);
  expect(engines.map(({ id }) => id).filter((id) => ledger.isUntouched(id))).toEqual([
    'asked nothing',
    'paused',
  ]);
});

test('files that are not what the fleet was updated with any more are loaded by no newcomer', async () => {
  await withBench({ engines: 1, workers: 1 }, async ({ engines, urls, b }) => {
    const sync = newcomerSync({ engines: [], transport: 'filesystem' }, connectFleet);
    const desired = (identity: string | null): Desired => ({
      weights: { directory: b, version: '1', identity },
      adapters: [],
    });
    const to = target(urls[0] as string);
    const { signal } = new AbortController();
    expect((await errorOf(sync(to, desired('another'), signal))).code).toBe('WC_CHECKPOINT_CHANGED');
    expect(await postsTo(engines[0] as ReferenceEngine)).not.toContain(LOAD);
    await sync(to, desired(await checkpointIdentity(b)), signal);
    expect(await postsTo(engines[0] as ReferenceEngine)).toContain(LOAD);
  });
}, 240_000);

test.each(['prime-rl', 'auto'])(
  'a %s server that receives by NCCL is never asked to load a directory: it joins at the next update',
  async (backend) => {
    await withPrimeRl([{ broadcast: 'nccl' }], async ({ engines, b }) => {
      const [engine] = engines as [ReferenceEngine];
      const sync = newcomerSync({ engines: [] }, connectFleet);
      const desired = { weights: { directory: b, version: '1', identity: null }, adapters: [] };
      const { signal } = new AbortController();
      const error = await sync(target(engine.url, { backend }), desired, signal).catch((e: unknown) => e);
      expect(String(error)).toContain('joins at the next update');
      expect(isPassing(error)).toBe(true);
      expect(await postsOf(engines)).toEqual([[]]);
    });
  },
  240_000,
);

/** A session on one engine that lists these models. */
function sessionListing(cards: readonly ModelCard[], backend: string) {
  const calls: string[] = [];
  const said = (operation: string, value: unknown) => ({ operation, value });
  const admin = {
    ...{ health: () => said('', null), worldSize: () => null, isPaused: () => null },
    ...{ weightVersion: () => null, processStart: () => null, capabilities: { diskLoad: true } },
    listModels: () => said('', cards),
    loadLoraAdapter: ({ name, path }: { name: string; path: string }) => said(`load ${name} ${path}`, null),
    unloadLoraAdapter: ({ name }: { name: string }) => said(`unload ${name}`, null),
  };
  const call = async ({ operation, value }: ReturnType<typeof said>) => {
    if (operation !== '') calls.push(operation);
    return value;
  };
  const engine = { id: 'a', url: 'http://a', backend, admin, declaredWorkers: null, call };
  return { calls, connect: async () => ({ engines: [engine], close: async () => {} }) as never };
}

test.each([
  ['an engine that has an adapter is not given it again', 'vllm', '/lora/7', null, []],
  [
    'one of the same name and another path is replaced',
    ...['vllm', '/lora/old', null, ['unload p-v7', 'load p-v7 /lora/7']],
  ],
  ["what Dynamo's frontend lists is not this worker's", 'dynamo', '/lora/7', null, ['load p-v7 /lora/7']],
  ["nor is what a router lists an engine's", 'prime-rl', '/lora/7', 'http://router', ['load p-v7 /lora/7']],
] as const)('%s', async (_, backend, root, inferenceUrl, expected) => {
  const { calls, connect } = sessionListing([{ id: 'p-v7', root, parent: 'base' }], backend);
  const sync = newcomerSync({ engines: [] }, connect);
  const desired: Desired = { weights: null, adapters: [{ name: 'p-v7', path: '/lora/7' }] };
  await sync(target('http://a', { backend, inferenceUrl }), desired, new AbortController().signal);
  expect(calls).toEqual(expected);
});

test('an address where nobody listens is left out and named; a second coordinator of the same engines is refused', async () => {
  await withBench({ engines: 1 }, async ({ urls, b, c }) => {
    await using session = await elasticSession([...urls, 'http://127.0.0.1:9'], { transport: 'filesystem' });
    await using other = await elasticSession([...urls], { transport: 'filesystem' });
    let begun = () => {};
    const began = new Promise<void>((resolve) => {
      begun = resolve;
    });
    await using slow = await connectFleet({
      ...{ engines: [], elastic: [new URL(urls[0] as string).host], transport: 'filesystem' },
      onEvent: (event) => {
        if (event.kind === 'phase' && event.phase === 'pause') begun();
      },
    });
    const running = slow.update(c, { version: '2' });
    await began;
    const refused = await failedReport(other.update(b, { version: '1' }));
    expect(refused.error?.code).toBe('WC_UPDATE_BUSY');
    await running;
    const report = await session.update(b, { version: '3' });
    expect(report.engines).toHaveLength(1);
    expect(report.notes.join()).toContain('http://127.0.0.1:9 is left out');
  });
}, 240_000);

test('an engine that left while its name still has the address does not fail the update', async () => {
  await withBench({ engines: 2, workers: 1 }, async ({ engines, urls, b, c }) => {
    await using session = await elasticSession([...urls], { transport: 'filesystem' });
    await session.update(b, { version: '1' });
    await engines[1]?.close();
    const report = await session.update(c, { version: '2' });
    expect(report.engines.map(({ url }) => url)).toEqual(urls.slice(0, 1));
    expect(report.notes.join()).toContain(`${urls[1]} is left out`);
  });
}, 240_000);

test('an engine that two sources name is refused, not seated twice', async () => {
  await withBench({ engines: 1, workers: 1 }, async ({ urls }) => {
    const [url] = urls as [string];
    const alias = url.replace('127.0.0.1', 'localhost');
    const error = await errorOf(elasticSession([url, alias]));
    expect(error).toMatchObject({
      code: 'WC_CONFIG_INVALID',
      message: expect.stringContaining('found twice'),
    });
    // Listed and found it is one engine, as it is listed.
    await using session = await elasticSession([url], { engines: [`${alias},workers=1`] });
    expect(session.engines.map(({ id, declaredWorkers }) => [id, declaredWorkers])).toEqual([[alias, 1]]);
  });
}, 240_000);

test('a fleet of nobody is an error that names the address', async () => {
  const error = await errorOf(
    connectFleet({ engines: [], elastic: ['127.0.0.1:9'], timeouts: { probe: 2_000 } }),
  );
  expect(error.code).toBe('WC_ENGINE_UNREACHABLE');
  expect(error.message).toContain('127.0.0.1:9');
}, 60_000);
