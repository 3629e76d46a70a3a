/** A vLLM server and a Dynamo worker in one fleet: the worker's vLLM speaks the same wire format, so they share a group and a pause. */
import { expect, it, vi } from 'vitest';
import {
  type ReferenceDynamoWorker,
  type ReferenceFaults,
  startReferenceEngine,
} from '../../src/testing/index.js';
import type { UpdateEvent } from '../../src/update/types.js';
import { type DynamoBench, engineOf, withDynamo } from './dynamo-bench.js';
import { digestsOf, failedReport, isPaused } from './support.js';

vi.setConfig({ testTimeout: 180_000 });

interface Both extends DynamoBench {
  readonly vllm: Awaited<ReturnType<typeof startReferenceEngine>>;
  readonly worker: ReferenceDynamoWorker;
  readonly engines: readonly string[];
}

async function withBoth(
  { layers = 2, faults = {} }: { readonly layers?: number; readonly faults?: ReferenceFaults },
  body: (both: Both) => Promise<void>,
): Promise<void> {
  await withDynamo({ engines: [{ faults }], layers }, async (bench) => {
    await using vllm = await startReferenceEngine({ model: bench.a, workers: 2 });
    const [worker] = bench.workers as [ReferenceDynamoWorker];
    const engines = [`vllm=${vllm.url}`, engineOf(worker, bench.dynamo)];
    await body({ ...bench, vllm, worker, engines });
  });
}

it('moves both by one group in one pause, each with its own version and its own proof', async () => {
  await withBoth({}, async ({ vllm, worker, engines, b, c, connect }) => {
    const events: UpdateEvent[] = [];
    const session = await connect({ engines, onEvent: (event) => events.push(event) });
    const report = await session.update(b, { version: '1' });
    const urls = [vllm.url, worker.systemUrl];
    expect(report).toMatchObject({ outcome: 'updated', transport: 'nccl' });
    expect(report.nccl?.groups).toEqual([{ wire: 'vllm', worldSize: 4, reused: false, engines: urls }]);
    expect(report.engines.map(({ backend, weightVersion }) => [backend, weightVersion])).toEqual([
      ['vllm', '1'],
      ['dynamo', '1'],
    ]);
    expect(report.engines.map(({ proof }) => proof?.method)).toEqual(['digest', 'fingerprint']);
    // Nobody is resumed before everybody has it: no request meets two versions.
    const states = events.flatMap((event) => (event.kind === 'engine' ? [event.state] : []));
    const lastPaused = states.lastIndexOf('paused');
    expect(lastPaused).toBeLessThan(states.indexOf('receiving'));
    expect(states.lastIndexOf('received')).toBeLessThan(states.indexOf('serving-new'));
    expect(Object.keys((await digestsOf(worker.engine))[0] ?? {})).toEqual(
      Object.keys((await digestsOf(vllm))[0] ?? {}),
    );

    expect(await session.update(c, { version: '2' })).toMatchObject({ nccl: { reused: true } });
    expect(await worker.state()).toMatchObject({ version: '2', paused: false });
    expect(await isPaused(vllm.url)).toBe(false);
  });
});

it('resumes neither on a mixture when the worker fails in the middle, and heals both from files where that is allowed', async () => {
  const faults = { receive: { afterBroadcasts: 2, action: 'raise' as const } };
  await withBoth({ layers: 60, faults }, async ({ vllm, worker, engines, b, connect }) => {
    const strict = await connect({ engines });
    const report = await failedReport(strict.update(b, { version: '1' }));
    expect(report.outcome).toBe('quarantined');
    const state = await worker.state();
    expect(state).toMatchObject({ paused: true });
    for (const { url, state: ended } of report.engines) {
      const paused = url === vllm.url ? await isPaused(url) : state.paused;
      expect(paused, url).toBe(ended === 'quarantined');
    }
    await strict.close();
    const healing = await connect({ engines, fallback: 'filesystem' });
    expect(await healing.update(b, { version: '1' })).toMatchObject({ outcome: 'updated' });
    expect(await worker.state()).toMatchObject({ version: '1', paused: false });
    expect(await isPaused(vllm.url)).toBe(false);
  });
});
