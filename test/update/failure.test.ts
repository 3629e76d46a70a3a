import { expect, it } from 'vitest';
import { startReferenceEngine } from '../../src/testing/index.js';
import { scriptedProxy } from './proxy.js';
import { answer, digestsOf, failedReport, isPaused, withBench } from './support.js';

it('quarantines every engine when a receive fails in the middle, and resumes none', async () => {
  await withBench(
    { engines: 2, workers: 1, faults: { receive: { afterBroadcasts: 2, action: 'raise' } } },
    async ({ connect, urls, b }) => {
      const session = await connect();
      const report = await failedReport(session.update(b));
      expect(report.outcome).toBe('quarantined');
      expect(report.engines.map((engine) => engine.state)).toEqual(['quarantined', 'quarantined']);
      expect(report.error?.message).toContain('injected fault');
      expect(await Promise.all(urls.map(isPaused))).toEqual([true, true]);
    },
  );
});

it('heals from disk what a failed receive left behind, when files are allowed, and proves it', async () => {
  await withBench(
    { engines: 2, workers: 2, faults: { receive: { afterBroadcasts: 2, action: 'raise', worker: 1 } } },
    async ({ connect, engines, urls, b }) => {
      const session = await connect({ fallback: 'filesystem' });
      const report = await session.update(b);
      expect(report.outcome).toBe('updated');
      expect(report.engines.map((engine) => engine.transport)).toEqual(['filesystem', 'filesystem']);
      expect(
        report.engines.every((engine) => engine.proof?.method === 'digest' && engine.proof.proved > 0),
      ).toBe(true);
      expect(await answer(urls[0] as string)).toEqual(await answer(urls[1] as string));

      await Promise.all(engines.map((engine) => engine.setFaults({})));
      const next = await session.update(b);
      expect(next).toMatchObject({ outcome: 'updated', transport: 'nccl', nccl: { reused: false } });
    },
  );
});

it('goes back to the old version from a recover directory when the new one did not arrive', async () => {
  await withBench(
    { engines: 2, workers: 1, faults: { receive: { afterBroadcasts: 1, action: 'raise' } } },
    async ({ connect, urls, a, b }) => {
      const before = await answer(urls[0] as string);
      const session = await connect({ recover: a });
      const report = await failedReport(session.update(b));
      expect(report.outcome).toBe('failed');
      expect(report.engines.map((engine) => engine.state)).toEqual(['serving-old', 'serving-old']);
      expect(await answer(urls[0] as string)).toEqual(before);
      expect(await Promise.all(urls.map(isPaused))).toEqual([false, false]);
    },
  );
});

it('ends a stalled receive at its deadline', async () => {
  await withBench(
    { engines: 1, workers: 2, faults: { receive: { afterBroadcasts: 1, action: 'stall', worker: 1 } } },
    async ({ connect, b }) => {
      const session = await connect({ timeouts: { update: 2_000 } });
      const began = performance.now();
      const report = await failedReport(session.update(b, { verify: 'none' }));
      expect(report.outcome).toBe('quarantined');
      // So few bytes leave rank 0 before the worker stalls; then it is the engine that does not answer.
      expect(['WC_NCCL_TIMEOUT', 'WC_ENGINE_TIMEOUT']).toContain(report.error?.code);
      expect(performance.now() - began).toBeLessThan(6_000);
    },
  );
});

it('finishes an engine that received everything, though another one stays silent until the deadline', async () => {
  await withBench({ engines: 2, workers: 1 }, async ({ connect, engines, urls, b }) => {
    await engines[1]?.setFaults({ receive: { afterBroadcasts: 1_000, action: 'stall' } });
    const session = await connect({ timeouts: { update: 8_000 } });
    const report = await failedReport(session.update(b));
    expect(report.engines.map(({ state }) => state)).toEqual(['serving-new', 'quarantined']);
    expect(report.error).toMatchObject({ code: 'WC_ENGINE_TIMEOUT', engine: urls[1] });
    expect(await isPaused(urls[0] as string)).toBe(false);
  });
});

it('pauses nobody when the engines refuse to join, and uses files instead when allowed', async () => {
  await withBench({ engines: 2, workers: 1, weightTransfer: false }, async ({ connect, engines, b }) => {
    const strict = await connect();
    const report = await failedReport(strict.update(b));
    expect(report.outcome).toBe('failed');
    expect(report.error?.code).toBe('WC_ENGINE_NOT_CONFIGURED');
    const paths = (await engines[0]?.exchanges())?.map(({ path }) => path);
    expect(paths).not.toContain('/pause');

    const lenient = await connect({ fallback: 'filesystem' });
    expect(await lenient.update(b)).toMatchObject({ outcome: 'updated', transport: 'filesystem' });
  });
});

it('quarantines an engine that holds other bytes than were sent, and lets the others serve', async () => {
  await withBench({ engines: 2, workers: 1 }, async ({ connect, engines, urls, b }) => {
    await engines[1]?.setFaults({ corruptParameter: 'model.norm.weight' });
    const session = await connect({ verify: 'digest' });
    const report = await failedReport(session.update(b));
    expect(report.outcome).toBe('quarantined');
    expect(report.engines.map((engine) => engine.state)).toEqual(['serving-new', 'quarantined']);
    expect(report.engines[1]?.proof?.mismatched).toEqual(['dp0:pp0:pcp0:tp0 model.norm.weight']);
    expect(await Promise.all(urls.map(isPaused))).toEqual([false, true]);
  });
});

it('notices an engine that was restarted between two updates and meets it afresh', async () => {
  await withBench({ engines: 2, workers: 1 }, async ({ connect, engines, a, b, c }) => {
    const session = await connect();
    await session.update(b, { version: '1' });
    const victim = engines[1] as (typeof engines)[number];
    const { port } = victim;
    await victim.kill();
    await using reborn = await startReferenceEngine({ model: a, port, workers: 1 });
    const report = await session.update(c, { version: '2' });
    expect(report).toMatchObject({ outcome: 'updated', nccl: { reused: false } });
    expect(await digestsOf(reborn)).toEqual(await digestsOf(engines[0] as never));
    await session.close();
  });
});

it('fails cleanly while an engine is down, and touches no other', async () => {
  await withBench({ engines: 2, workers: 1 }, async ({ connect, engines, urls, b, c }) => {
    const session = await connect({ timeouts: { probe: 1_000 } });
    await session.update(b);
    await engines[1]?.kill();
    const report = await failedReport(session.update(c));
    expect(report).toMatchObject({
      outcome: 'failed',
      error: { code: 'WC_ENGINE_UNREACHABLE', engine: urls[1] },
    });
    expect(await isPaused(urls[0] as string)).toBe(false);
  });
});

it('leaves everybody on the old version when it is interrupted before the pause', async () => {
  await withBench({ engines: 1, workers: 1 }, async ({ connect, urls, b }) => {
    const stop = new AbortController();
    const session = await connect({
      onEvent: (event) => {
        if (event.kind === 'phase' && event.phase === 'rendezvous') stop.abort();
      },
    });
    const report = await failedReport(session.update(b, { signal: stop.signal }));
    expect(report).toMatchObject({ outcome: 'failed', error: { code: 'WC_UPDATE_ABORTED' } });
    expect(await isPaused(urls[0] as string)).toBe(false);
  });
});

it('is not interrupted any more once everything was sent: the engines end on the new version', async () => {
  await withBench(
    { engines: 2, workers: 1, faults: { broadcastDelayMs: 200 } },
    async ({ connect, urls, b }) => {
      const stop = new AbortController();
      const session = await connect({
        onEvent: (event) => {
          if (event.kind === 'progress' && event.phase === 'transfer' && event.bytes === event.totalBytes)
            stop.abort();
        },
      });
      const report = await session.update(b, { signal: stop.signal });
      expect(stop.signal.aborted).toBe(true);
      expect(report.engines.map(({ state, transport }) => [state, transport])).toEqual([
        ['serving-new', 'nccl'],
        ['serving-new', 'nccl'],
      ]);
      expect(await Promise.all(urls.map(isPaused))).toEqual([false, false]);
      // Nothing was given up, the group neither.
      expect((await session.update(b)).nccl?.reused).toBe(true);
    },
  );
});

it("does not take an engine that can't say when it was started for one that was restarted", async () => {
  await withBench({ engines: 1, workers: 1 }, async ({ connect, urls, b, c }) => {
    await using proxy = await scriptedProxy(urls[0] as string);
    const session = await connect({ engines: [proxy.url], verify: 'none' });
    await session.update(b);
    proxy.on('/metrics', { kind: 'answer', status: 404, body: {} });
    const silent = await session.update(c);
    proxy.clear();
    const again = await session.update(b);
    for (const { notes } of [silent, again]) expect(notes.join()).not.toContain('was restarted');
  });
});

it('says which engines are quarantined when it is interrupted in the transfer, and heals them at the next update', async () => {
  await withBench(
    { engines: 2, workers: 1, layers: 60, faults: { broadcastDelayMs: 300 } },
    async ({ connect, engines, urls, b }) => {
      const stop = new AbortController();
      const session = await connect({
        onEvent: (event) => {
          if (event.kind === 'progress' && event.phase === 'transfer') stop.abort();
        },
      });
      const report = await failedReport(session.update(b, { signal: stop.signal }));
      expect(report).toMatchObject({
        outcome: 'quarantined',
        error: { code: 'WC_UPDATE_ABORTED', phase: 'transfer' },
      });
      expect(await Promise.all(urls.map(isPaused))).toEqual([true, true]);

      await Promise.all(engines.map((engine) => engine.setFaults({})));
      const healed = await session.update(b);
      expect(healed.outcome).toBe('updated');
      expect(healed.engines[0]?.history[0]?.reason).toContain('found paused');
      expect(await answer(urls[0] as string)).toEqual(await answer(urls[1] as string));
    },
  );
});

it('refuses a second update while one runs', async () => {
  await withBench({ engines: 1, workers: 1 }, async ({ connect, b }) => {
    const session = await connect();
    const first = session.update(b);
    await expect(session.update(b)).rejects.toMatchObject({ code: 'WC_UPDATE_BUSY' });
    await first;
  });
});

it('names a device that is not there before anyone is paused', async () => {
  await withBench({ engines: 1, workers: 1 }, async ({ connect, engines, b }) => {
    const session = await connect({ device: 99, fallback: 'filesystem' });
    const report = await failedReport(session.update(b));
    expect(report).toMatchObject({ outcome: 'failed', error: { code: 'WC_CONFIG_INVALID' } });
    expect(report.error?.message).toContain('device 99');
    expect((await engines[0]?.exchanges())?.map(({ path }) => path)).not.toContain('/pause');
  });
});
