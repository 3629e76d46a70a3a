/** Engines that are found for a trainer's group, which has the ranks that it began with. */
import { expect, it, vi } from 'vitest';
import { findGroup } from '../../src/operations/found-group.js';
import type { FleetOptions } from '../../src/update/index.js';
import { errorOf } from '../engines/client.js';
import { withServer } from '../engines/server.js';
import { listJson, workerJson } from '../fleet/dynamo/recorded.js';

vi.setConfig({ testTimeout: 60_000 });

const signal = new AbortController().signal;

/** A listener of Dynamo whose answers a test gives. */
async function withListener(
  body: (
    fleet: FleetOptions,
    answer: (...workers: string[]) => void,
    /** From so many looks on. */
    later: (looks: number, ...workers: string[]) => void,
  ) => Promise<void>,
): Promise<void> {
  let list = listJson();
  let next: { readonly looks: number; readonly list: string } | null = null;
  let looks = 0;
  await withServer(
    (_, response) => {
      looks += 1;
      if (next !== null && looks >= next.looks) list = next.list;
      response.end(list);
    },
    async ({ url }) => {
      const fleet = { engines: [], discover: [`dynamo=${url},rl=${url}`], timeouts: { discovery: 20_000 } };
      await body(
        fleet,
        (...workers) => {
          list = listJson(...workers);
        },
        (when, ...workers) => {
          next = { looks: when, list: listJson(...workers) };
        },
      );
    },
  );
}

it('waits until the workers of the group are there, in an order that lasts', async () => {
  await withListener(async (fleet, answer, later) => {
    answer(workerJson('8'));
    // Two looks alike are a fleet, of one worker.
    later(4, workerJson('9', { world_size: 2 }), workerJson('8'));
    await using found = await findGroup(fleet, { inferenceWorldSize: 3, signal });
    expect(found.engines.map(({ url }) => url)).toEqual(['http://10.0.0.8:9090', 'http://10.0.0.9:9090']);
    await found.requireSame(signal);
  });
});

it('says who left and who came, and another process at the same address is another', async () => {
  await withListener(async (fleet, answer) => {
    answer(workerJson('8'), workerJson('9'));
    await using found = await findGroup(fleet, { inferenceWorldSize: null, signal });
    answer(workerJson('8'), workerJson('209', { system_url: 'http://10.0.0.9:9090' }), workerJson('10'));
    const error = await errorOf(found.requireSame(signal));
    expect(error).toMatchObject({
      code: 'WC_DISCOVERY_FAILED',
      details: {
        left: ['http://10.0.0.9:9090 (curator/backend/9)'],
        came: expect.arrayContaining([
          'http://10.0.0.9:9090 (curator/backend/209)',
          'http://10.0.0.10:9090 (curator/backend/10)',
        ]),
      },
    });
    expect(error.remedy).toContain('Restart the trainer');
  });
});

it('names who is there when the deadline has passed, and ends with its signal', async () => {
  await withListener(async (fleet, answer) => {
    answer(workerJson('8'));
    const options = { ...fleet, timeouts: { discovery: 3_000 } };
    const error = await errorOf(findGroup(options, { inferenceWorldSize: 2, signal }));
    expect(error).toMatchObject({ code: 'WC_DISCOVERY_FAILED' });
    expect(error.message).toContain('http://10.0.0.8:9090');
    const stop = new AbortController();
    const finding = findGroup(options, { inferenceWorldSize: 2, signal: stop.signal });
    stop.abort();
    await expect(finding).rejects.toThrow();
  });
});
