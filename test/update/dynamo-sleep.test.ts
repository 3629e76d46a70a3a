/** Dynamo workers that sleep (control/sleep): their memory is released, they leave the rotation, and discovery goes on listing them. */
import { expect, it, vi } from 'vitest';
import { updateWeights } from '../../src/operations/index.js';
import type { ReferenceDynamoWorker } from '../../src/testing/index.js';
import { errorOf } from '../engines/client.js';
import { chat, engineOf, engineRoute, withDynamo } from './dynamo-bench.js';
import { digestsOf, failedReport } from './support.js';

vi.setConfig({ testTimeout: 120_000 });

const CHANGES = /^\/engine\/(pause|resume|update|init)_/;
const changesOf = async ({ engine }: ReferenceDynamoWorker, body: (path: string) => boolean = () => true) =>
  (await engine.exchanges()).map(({ path }) => path).filter((path) => CHANGES.test(path) && body(path));

it.each(['nccl', 'filesystem'] as const)(
  'are named, and nobody is paused, by %s; the next update reaches them awake',
  async (transport) => {
    await withDynamo({ engines: 2 }, async ({ connect, workers, dynamo, b }) => {
      const [awake, sleeps] = workers as [ReferenceDynamoWorker, ReferenceDynamoWorker];
      await engineRoute(sleeps, 'control/sleep', { level: 1 });
      const session = await connect({ transport });
      const before = await Promise.all(workers.map(({ engine }) => digestsOf(engine)));
      const report = await failedReport(session.update(b, { version: '7' }));
      expect(report).toMatchObject({
        outcome: 'failed',
        error: { code: 'WC_ENGINE_ASLEEP', engine: sleeps.systemUrl, phase: 'preflight' },
      });
      expect(report.error?.remedy).toContain('control/wake_up');
      for (const worker of workers) {
        // Whether it is paused was asked by an update that names nothing.
        expect(await changesOf(worker, (path) => !path.endsWith('from_disk'))).toEqual([]);
        expect(await worker.state()).toMatchObject({ paused: false, version: null });
      }
      expect(await Promise.all(workers.map(({ engine }) => digestsOf(engine)))).toEqual(before);
      expect(await chat(dynamo)).toMatchObject({ status: 200 });

      await engineRoute(sleeps, 'control/wake_up');
      expect(await session.update(b, { version: '7' })).toMatchObject({ outcome: 'updated' });
      expect(await digestsOf(sleeps.engine)).toEqual(await digestsOf(awake.engine));
    });
  },
);

it('are asked for nothing by updateWeights either', async () => {
  await withDynamo({}, async ({ workers, dynamo, b }) => {
    const [worker] = workers as [ReferenceDynamoWorker];
    await engineRoute(worker, 'control/sleep', { level: 1 });
    const error = await errorOf(updateWeights([engineOf(worker, dynamo)], b));
    expect(error).toMatchObject({ code: 'WC_ENGINE_ASLEEP', engine: worker.systemUrl });
    expect(await changesOf(worker)).toEqual([]);
  });
});

it('are not ready in a fleet that is found; one that woke without its weights is quarantined until the next version', async () => {
  await withDynamo({ engines: 2 }, async ({ connect, workers, dynamo, b, c }) => {
    const [, sleeps] = workers as [ReferenceDynamoWorker, ReferenceDynamoWorker];
    const session = await connect({
      ...{ engines: [], discover: [`dynamo=${dynamo.url},rl=${dynamo.discoveryUrl},world_size=2`] },
      ...{ pool: { intervalMs: 3_600_000 }, transport: 'filesystem' },
    });
    await session.update(b, { version: '1' });
    const { pool } = session;
    const look = async () => {
      await pool?.look();
      return pool?.engines.find(({ url }) => url === sleeps.systemUrl);
    };
    expect(await look()).toMatchObject({ state: 'ready', weightVersion: '1' });

    await engineRoute(sleeps, 'control/sleep', { level: 1 });
    expect(await look()).toMatchObject({ state: 'unhealthy', reason: expect.stringContaining('sleeps') });
    expect(pool?.metrics()).toMatchObject({ 'elastic/num_servers': 2, 'elastic/num_ready_servers': 1 });
    await engineRoute(sleeps, 'control/wake_up');
    expect(await look()).toMatchObject({ state: 'ready' });

    await engineRoute(sleeps, 'control/sleep', { level: 2 });
    await look();
    await engineRoute(sleeps, 'control/wake_up');
    expect(await look()).toMatchObject({
      ...{ state: 'quarantined', weightVersion: '1' },
      reason: expect.stringContaining('discarded'),
    });
    await session.update(c, { version: '2' });
    expect(await look()).toMatchObject({ state: 'ready', weightVersion: '2' });
  });
});
