/** A Dynamo worker ends itself when its group takes longer than DYN_RL_INIT_WEIGHTS_TIMEOUT_S: it is let go before. */
import { expect, it, test } from 'vitest';
import type { EngineAdmin } from '../../src/engines/admin.js';
import type { ReferenceDynamoWorker } from '../../src/testing/index.js';
import { rendezvousMs } from '../../src/update/nccl-sender.js';
import { resolveSettings } from '../../src/update/settings.js';
import { chat, engineOf, withDynamo } from './dynamo-bench.js';
import { failedReport } from './support.js';

const member = (joinWithinMs?: number) => ({
  engine: { admin: { capabilities: { joinWithinMs } } as EngineAdmin },
});

test.each([
  ['as long as the default says', undefined, [member()], 300_000],
  ['less where an engine has less time', undefined, [member(), member(25_000)], 25_000],
  ['as long as the user says, who may have given it more', 110_000, [member(25_000)], 110_000],
])('a rendezvous takes %s', (_, rendezvous, members, expected) => {
  const timeouts = rendezvous === undefined ? {} : { rendezvous };
  const settings = resolveSettings({ engines: ['http://e'], timeouts });
  expect(rendezvousMs(settings, members)).toBe(expected);
});

it('leaves those alive who waited for one that never joins, and they take the next push', {
  timeout: 60_000,
}, async () => {
  const engines = [{}, { faults: { join: { action: 'stall' as const } } }];
  await withDynamo({ engines }, async ({ connect, dynamo, workers, b }) => {
    const session = await connect({ timeouts: { rendezvous: 1_500 } });
    const report = await failedReport(session.update(b, { version: '7' }));
    expect(report.error).toMatchObject({ code: 'WC_RENDEZVOUS_TIMEOUT', phase: 'rendezvous' });
    const [waited] = workers as [ReferenceDynamoWorker];
    expect(waited.ended).toBe(false);
    const alone = await connect({ engines: [engineOf(waited, dynamo)] });
    expect(await alone.update(b, { version: '8' })).toMatchObject({ outcome: 'updated' });
    expect(await waited.state()).toMatchObject({ paused: false, version: '8' });
    dynamo.expire(workers[1] as ReferenceDynamoWorker);
    expect((await chat(dynamo)).status).toBe(200);
  });
});
