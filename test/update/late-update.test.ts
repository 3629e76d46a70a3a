/** A request to receive that reaches its engine after the client has gone, and after the engine was healed (seed 5301 of the simulator). */
import { expect, it, vi } from 'vitest';
import { deferred } from '../../src/testing/deferred.js';
import type { ReferenceDynamoWorker } from '../../src/testing/index.js';
import { chat, engineOf, withDynamo } from './dynamo-bench.js';
import { scriptedProxy } from './proxy.js';
import { failedReport } from './support.js';

const UPDATE = '/engine/update_weights_from_distributed';

it('finds no session open, so that it breaks nobody who was resumed', { timeout: 120_000 }, async () => {
  await withDynamo({ layers: 60 }, async ({ dynamo, workers, connect, a, b }) => {
    const [worker] = workers as [ReferenceDynamoWorker];
    await using proxy = await scriptedProxy(worker.systemUrl ?? '');
    const arrival = deferred<void>();
    const updates = async () =>
      (await worker.engine.exchanges()).filter(({ requestBody }) => requestBody.includes('update_info'))
        .length;
    // The first opens the session.
    proxy.on(UPDATE, { kind: 'late', until: arrival.promise }, 2);
    proxy.on('/engine/resume_generation', {
      kind: 'watch',
      seen: async () => {
        arrival.resolve();
        await vi.waitUntil(async () => (await updates()) > 0, { timeout: 30_000 });
      },
    });
    const session = await connect({
      engines: [engineOf(worker, dynamo).replace(String(worker.systemUrl), proxy.url)],
      ...{ recover: a, timeouts: { update: 1_500 } },
    });
    const report = await failedReport(session.update(b, { version: '7' }));
    expect(report.engines[0]).toMatchObject({ state: 'serving-old' });
    expect(await worker.engine.state()).toMatchObject({ broken: false, dead: false });
    expect((await chat(dynamo)).status).toBe(200);
  });
});
