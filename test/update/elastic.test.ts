/** Elastic fleets against reference engines: who comes, goes and restarts between two updates. */
import { expect, test } from 'vitest';
import type { Member } from '../../src/fleet/membership.js';
import { startReferenceEngine } from '../../src/testing/index.js';
import { connectAll } from '../../src/update/fleet-connections.js';
import { connectFleet } from '../../src/update/index.js';
import type { FleetMembership } from '../../src/update/membership.js';
import { newcomerSync } from '../../src/update/newcomers.js';
import { FleetSession } from '../../src/update/session.js';
import { SessionPool } from '../../src/update/session-pool.js';
import { resolveSettings } from '../../src/update/settings.js';
import type { FleetOptions } from '../../src/update/types.js';
import { errorOf } from '../engines/client.js';
import { target } from '../engines/server.js';
import { answer, digestsOf, failedReport, withBench } from './support.js';

/** A fleet whose members are what `urls` says at each look. */
async function elasticSession(urls: string[], options: Partial<FleetOptions> = {}) {
  const full: FleetOptions = {
    ...{ engines: [], elastic: ['engines:8000'], emulate: true, packedBufferBytes: 50_000 },
    ...{ pool: { intervalMs: 3_600_000 }, ...options },
  };
  const look = (): Member[] => urls.map((url) => ({ target: target(url), identity: null }));
  const source = { name: 'test', poll: async () => ({ members: look(), unusable: [] }) };
  const membership: FleetMembership = {
    found: [{ source, worldSize: null }],
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

test('a fleet of nobody is an error that names the address', async () => {
  const error = await errorOf(
    connectFleet({ engines: [], elastic: ['127.0.0.1:9'], timeouts: { probe: 2_000 } }),
  );
  expect(error.code).toBe('WC_ENGINE_UNREACHABLE');
  expect(error.message).toContain('127.0.0.1:9');
}, 60_000);
