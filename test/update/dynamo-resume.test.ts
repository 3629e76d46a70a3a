/** A resume of a Dynamo worker that is never answered, and what weightcast does about it (contracts/dynamo.md, Behaviour 4). */
import { expect, it } from 'vitest';
import type { ReferenceDynamoWorker } from '../../src/testing/index.js';
import { withDynamo } from './dynamo-bench.js';
import { failedReport } from './support.js';

it('asks again after a resume that was never answered: one that was applied serves', async () => {
  const routeFaults = { routes: { resume_generation: { drop: true } } };
  await withDynamo({ engines: [{ routeFaults }] }, async ({ connect, workers, b }) => {
    const session = await connect({ timeouts: { resume: 1_500 } });
    const report = await session.update(b, { version: '7' });
    expect(report.engines[0]).toMatchObject({ state: 'serving-new', weightVersion: '7' });
    expect(report.notes).toContainEqual(expect.stringContaining('its resume was not answered'));
    expect((await workers[0]?.state())?.paused).toBe(false);
  });
});

it('quarantines a worker whose resume comes later than anybody waits, and says that it may be serving', async () => {
  const routeFaults = { routes: { resume_generation: { delayMs: 8_000, times: 1 } } };
  await withDynamo({ engines: [{ routeFaults }] }, async ({ connect, workers, b }) => {
    const [worker] = workers as [ReferenceDynamoWorker];
    const session = await connect({ timeouts: { resume: 300 } });
    const report = await failedReport(session.update(b, { version: '7' }));
    expect(report.engines[0]).toMatchObject({ state: 'quarantined' });
    expect(report.engines[0]?.history.at(-1)?.reason).toContain('it may be serving');
    expect((await worker.state()).paused).toBe(true);
    // It comes, though its caller has long gone.
    await expect.poll(async () => (await worker.state()).paused, { timeout: 20_000 }).toBe(false);
  });
});
