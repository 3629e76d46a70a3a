/** Dynamo workers with prime-rl's worker extension (#2773): its broadcast, its ranks, its roles, over Dynamo's routes. */
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { followTrainer, openPrimeRlSender } from '../../src/operations/index.js';
import type { ReferenceDynamoWorker } from '../../src/testing/index.js';
import { type DynamoBench, engineOf, withDynamo } from './dynamo-bench.js';
import { digestsOf } from './support.js';

vi.setConfig({ testTimeout: 180_000 });

/** One worker of one rank, and one of two. */
const FLEET = { engines: [{ workers: 1 }, { workers: 2 }], workerExtension: 'prime-rl' } as const;

const named = ({ workers, dynamo }: DynamoBench) =>
  workers.map(
    (worker, index) => `${engineOf(worker, dynamo)},rpc=prime-rl,workers=${FLEET.engines[index]?.workers}`,
  );

/** Bodies of the calls of a route, in their order. */
async function asked({ engine }: ReferenceDynamoWorker, route: string): Promise<object[]> {
  return (await engine.exchanges())
    .filter(({ path }) => path === `/engine/${route}`)
    .map(({ requestBody }) => JSON.parse(requestBody) as object);
}

const digests = ({ workers }: DynamoBench) => Promise.all(workers.map(({ engine }) => digestsOf(engine)));

/** What every rank of every worker holds now is what it loads from the files. */
async function expectHolds(bench: DynamoBench, weights: string): Promise<void> {
  const received = await digests(bench);
  expect(received.flat()).toHaveLength(3);
  const session = await bench.connect({ engines: named(bench), transport: 'filesystem' });
  await session.update(weights);
  expect(received).toEqual(await digests(bench));
}

it('receive two versions in one group, and say the tag of each', async () => {
  await withDynamo(FLEET, async (bench) => {
    const { workers, connect, b, c } = bench;
    const session = await connect({ engines: named(bench) });
    const before = await digests(bench);
    for (const [index, weights] of [b, c].entries()) {
      const report = await session.update(weights, { version: `v${index}` });
      expect(report).toMatchObject({ outcome: 'updated', nccl: { worldSize: 4, reused: index > 0 } });
      for (const worker of workers)
        expect(await worker.state()).toMatchObject({ paused: false, version: `v${index}` });
    }
    expect(await digests(bench)).not.toEqual(before);
    const seats = await Promise.all(workers.map((worker) => asked(worker, 'init_weights_update_group')));
    expect(seats).toMatchObject([
      [{ engine_rpc: 'init_broadcaster', rank_offset: 0, inference_world_size: 3 }],
      [{ engine_rpc: 'init_broadcaster', rank_offset: 1, inference_world_size: 3 }],
    ]);
    for (const worker of workers) {
      expect(await asked(worker, 'update_weights_from_distributed')).toEqual([
        { engine_rpc: 'update_weights_from_path', weight_dir: b, weight_version: 'v0' },
        { engine_rpc: 'update_weights_from_path', weight_dir: c, weight_version: 'v1' },
      ]);
    }
    await expectHolds(bench, c);
  });
});

it('are driven by the orchestrator beside a trainer, which is another process’s part: both roles over Dynamo', async () => {
  await withDynamo(FLEET, async (bench) => {
    const { workers, b, c } = bench;
    const broadcasts = join(b, '..', 'run', 'broadcasts');
    const stop = new AbortController();
    const served: number[] = [];
    let following: Promise<void> = Promise.resolve();
    await using sender = await openPrimeRlSender({
      ...{ broadcasts, inferenceWorldSize: 3, port: 0, emulate: true, pollMs: 5 },
      ...{ packedBufferBytes: 50_000, joinTimeoutMs: 60_000 },
      onListening: (port) => {
        following = followTrainer(named(bench), {
          ...{ broadcasts, group: { host: '127.0.0.1', port, joinTimeoutMs: 60_000 } },
          ...{ signal: stop.signal, pollMs: 5, stateDir: join(b, '..', 'state') },
          onUpdated: ({ version }) => {
            served.push(version);
            if (version === 8) stop.abort();
          },
        });
        following.catch(() => undefined);
      },
    });
    await sender.send(b, 7);
    await sender.send(c, 8);
    await following;
    expect(served).toEqual([7, 8]);
    // As prime-rl tags: the folder of the version.
    for (const worker of workers)
      expect(await worker.state()).toMatchObject({ paused: false, version: 'step_8' });
    await expectHolds(bench, c);
  });
});
