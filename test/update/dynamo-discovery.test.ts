/** Fleets of Dynamo workers that are discovered, not named: who is replaced, who is new, and who is not whole. */
import { expect, test, vi } from 'vitest';
import type { ReferenceDynamo, ReferenceDynamoWorker } from '../../src/testing/index.js';
import type { FleetSession } from '../../src/update/index.js';
import { MAIN, Spawned } from '../cli/spawned.js';
import { errorOf } from '../engines/client.js';
import { engineOf, withDynamo } from './dynamo-bench.js';
import { digestsOf, failedReport } from './support.js';

vi.setConfig({ testTimeout: 180_000 });

/** As a user names the frontend. Between updates the pool looks when a test does. */
const found = (dynamo: ReferenceDynamo, ...words: string[]) => ({
  engines: [],
  discover: [[`dynamo=${dynamo.url}`, `rl=${dynamo.discoveryUrl}`, ...words].join(',')],
  pool: { intervalMs: 3_600_000 },
});

const pair = (workers: readonly ReferenceDynamoWorker[]) =>
  workers as [ReferenceDynamoWorker, ReferenceDynamoWorker];

async function replace(dynamo: ReferenceDynamo, worker: ReferenceDynamoWorker) {
  await worker.engine.close();
  dynamo.expire(worker);
  return dynamo.add();
}

function poolOf(session: FleetSession) {
  const { pool } = session;
  if (pool === null) throw new Error('no pool');
  return pool;
}

test('a worker that is replaced between two updates is brought to the version before it counts as ready, and joins the next group', async () => {
  await withDynamo({ engines: 2 }, async ({ dynamo, workers, connect, b, c }) => {
    const [stays, goes] = pair(workers);
    const session = await connect(found(dynamo, 'world_size=2'));
    const first = await session.update(b, { version: '1' });
    expect(first).toMatchObject({ outcome: 'updated', nccl: { worldSize: 3 } });

    const newcomer = await replace(dynamo, goes);
    const pool = poolOf(session);
    const viewOf = (url: string | null) => pool.engines.find((engine) => engine.url === url);
    await vi.waitUntil(
      async () => {
        await pool.look();
        return viewOf(newcomer.systemUrl) !== undefined;
      },
      { timeout: 60_000, interval: 20 },
    );
    // It answers, and serves the weights that it was started with.
    expect(viewOf(newcomer.systemUrl)?.state).toBe('syncing');
    // The hold waits for the sync.
    (await pool.hold())();
    await pool.look();
    expect(viewOf(newcomer.systemUrl)).toMatchObject({ state: 'ready', weightVersion: '1' });
    expect(await newcomer.state()).toMatchObject({ version: '1', paused: false });
    expect(await digestsOf(newcomer.engine)).toEqual(await digestsOf(stays.engine));
    // It came to them by files: a group of two could not have taken it in.
    const routes = (await newcomer.engine.exchanges()).map(({ path }) => path);
    expect(routes).toContain('/engine/update_weights_from_disk');
    expect(routes).not.toContain('/engine/init_weights_update_group');
    expect(pool.readyUrls).toEqual([dynamo.url]);

    const second = await session.update(c, { version: '2' });
    expect(second).toMatchObject({ outcome: 'updated', nccl: { worldSize: 3, reused: false } });
    const urls = [stays.systemUrl, newcomer.systemUrl];
    expect(new Set(second.engines.map(({ url }) => url))).toEqual(new Set(urls));
    expect(await digestsOf(newcomer.engine)).toEqual(await digestsOf(stays.engine));
    expect(await newcomer.state()).toMatchObject({ version: '2' });
  });
});

test('a worker that leaves between two updates, with no successor, ends the next one before anybody is paused', async () => {
  await withDynamo({ engines: 2 }, async ({ dynamo, workers, connect, b, c }) => {
    const [stays, goes] = pair(workers);
    const session = await connect({ ...found(dynamo, 'world_size=2'), timeouts: { discovery: 1_500 } });
    await session.update(b, { version: '1' });
    await goes.engine.close();
    dynamo.expire(goes);
    const report = await failedReport(session.update(c, { version: '2' }));
    expect(report.error).toMatchObject({ code: 'WC_DISCOVERY_FAILED' });
    expect(report.error?.message).toContain(stays.systemUrl);
    expect(await stays.state()).toMatchObject({ version: '1', paused: false });
  });
});

test('a worker that serves without its system port keeps everybody from being updated: it would serve the old version beside them', async () => {
  await withDynamo({ engines: [{}, { systemPortTaken: true }] }, async ({ dynamo, workers, connect }) => {
    const [whole] = pair(workers);
    const error = await errorOf(connect(found(dynamo, 'world_size=1')));
    expect(error).toMatchObject({ code: 'WC_DISCOVERY_FAILED', phase: 'discovery' });
    expect(error.message).toContain('DYN_SYSTEM_PORT');
    expect(await whole.state()).toMatchObject({ paused: false });
  });
});

test('a push that is killed in the middle leaves workers that live and are paused, and files heal them', async () => {
  const faults = { broadcastDelayMs: 100 };
  await withDynamo(
    { engines: [{ faults }, { faults }], layers: 60 },
    async ({ dynamo, workers, connect, b, c }) => {
      const names = workers.flatMap((worker) => ['-e', engineOf(worker, dynamo)]);
      await using pushing = new Spawned([
        ...[MAIN, 'push', b, ...names, '--emulate', '--no-guardian', '--state-dir', 'none'],
        ...['--packed-buffer-bytes', '50000', '--weight-version', '1'],
      ]);
      await pushing.err.seen('transfer');
      pushing.signal('SIGKILL');
      await pushing.ended;
      const states = await Promise.all(workers.map((worker) => worker.state()));
      // Whoever resumes them as they are serves a mixture; nothing in Dynamo would say no.
      expect(states.map(({ paused, version }) => [paused, version === '1'])).toEqual([
        [true, false],
        [true, false],
      ]);
      expect(workers.map(({ ended }) => ended)).toEqual([false, false]);
      const healing = await connect({ ...found(dynamo, 'world_size=2'), transport: 'filesystem' });
      expect(await healing.update(c, { version: '2' })).toMatchObject({ outcome: 'updated' });
      const [one, other] = await Promise.all(workers.map(({ engine }) => digestsOf(engine)));
      expect(one).toEqual(other);
    },
  );
});
