/** An update that ends early, or whose own side fails: its signal, its session, its listener, its files. */
import { stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { FleetSession } from '../../../src/update/index.js';
import {
  answer,
  digestsOf,
  digestsOfLoaded,
  failedReport,
  isPaused,
  postsTo,
  withBench,
} from '../support.js';
import { at, withProxies } from './support.js';

it('is interrupted by the close of its session like by a signal', async () => {
  await withBench(
    { engines: 1, workers: 1, layers: 60, faults: { broadcastDelayMs: 200 } },
    async ({ connect, engines, urls, b }) => {
      let closing: Promise<void> | undefined;
      const session: FleetSession = await connect({
        onEvent: (event) => {
          if (event.kind === 'progress' && event.phase === 'transfer') closing ??= session.close();
        },
      });
      const report = await failedReport(session.update(b));
      await closing;
      expect(report).toMatchObject({
        outcome: 'quarantined',
        error: { code: 'WC_UPDATE_ABORTED' },
        engines: [{ state: 'quarantined' }],
      });
      expect(await isPaused(at(urls, 0))).toBe(true);
      expect(await postsTo(at(engines, 0))).not.toContain('/resume');
      await expect(session.update(b)).rejects.toMatchObject({ code: 'WC_NATIVE_CLOSED' });
    },
  );
});

it('goes on when a listener of its events throws', async () => {
  await withBench({ engines: 1, workers: 1 }, async ({ connect, engines, urls, b }) => {
    let events = 0;
    const warnings: string[] = [];
    const onWarning = ({ message }: Error) => warnings.push(message);
    process.on('warning', onWarning);
    const session = await connect({
      onEvent: () => {
        events += 1;
        throw new Error('the listener is broken');
      },
    });
    expect(await session.update(b)).toMatchObject({ outcome: 'updated', error: null });
    expect(events).toBeGreaterThan(5);
    process.off('warning', onWarning);
    expect(warnings.filter((text) => text.includes('the listener is broken'))).toHaveLength(1);
    expect(await isPaused(at(urls, 0))).toBe(false);
    const held = await digestsOf(at(engines, 0));
    expect(held).toEqual(await digestsOfLoaded(at(engines, 0), b));
  });
});

it.each([
  ['before the update', 'preflight', ['WC_SAFETENSORS_INVALID', 'WC_CHECKPOINT_CHANGED']],
  ['while it is being pushed', 'rendezvous', ['WC_CHECKPOINT_CHANGED', 'WC_FILE_READ']],
] as const)(
  'pauses nobody for a shard that was cut off %s, and does not hand it out as files',
  async (_, phase, codes) => {
    await withBench({ engines: 1, workers: 1 }, async ({ connect, engines, urls, b }) => {
      const shard = join(b, 'model-00003-of-00003.safetensors');
      const { size } = await stat(shard);
      const cut = () => truncate(shard, size - 100);
      let cutting: Promise<void> | undefined;
      if (phase === 'preflight') await cut();
      const session = await connect({
        fallback: 'filesystem',
        verify: 'none',
        onEvent: (event) => {
          if (event.kind === 'phase' && event.phase === phase) cutting ??= cut();
        },
      });
      const before = await digestsOf(at(engines, 0));
      const report = await failedReport(session.update(b));
      await cutting;
      expect(report.outcome).toBe('failed');
      expect(codes).toContain(report.error?.code);
      const posts = await postsTo(at(engines, 0));
      expect(posts).not.toContain('/pause');
      expect(posts).not.toContain('/collective_rpc');
      expect(await isPaused(at(urls, 0))).toBe(false);
      expect(await digestsOf(at(engines, 0))).toEqual(before);
    });
  },
);

it('puts everybody back on the old version when it is interrupted between the pause and the transfer', async () => {
  await withBench({ engines: 1, workers: 1 }, async ({ connect, engines, urls, b }) => {
    const [scores, before] = [await answer(at(urls, 0)), await digestsOf(at(engines, 0))];
    const stop = new AbortController();
    const session = await connect({
      onEvent: (event) => {
        if (event.kind === 'phase' && event.phase === 'transfer') stop.abort();
      },
    });
    const report = await failedReport(session.update(b, { signal: stop.signal }));
    expect(report).toMatchObject({
      outcome: 'failed',
      error: { code: 'WC_UPDATE_ABORTED' },
      engines: [{ state: 'serving-old' }],
    });
    expect(await isPaused(at(urls, 0))).toBe(false);
    expect(await digestsOf(at(engines, 0))).toEqual(before);
    expect(await answer(at(urls, 0))).toEqual(scores);
  });
});

// Interrupted within 100 ms of the request; a machine that is busy elsewhere may begin to send before.
it('puts everybody back on the old version when it is interrupted before the first byte', {
  retry: 2,
}, async () => {
  await withProxies({ engines: 2 }, async ({ connect, engines, urls, proxies, b }) => {
    const [scores, before] = [await answer(at(urls, 0)), await digestsOf(at(engines, 0))];
    const stop = new AbortController();
    at(proxies, 0).on('/update_weights', { kind: 'watch', seen: () => stop.abort() });
    const session = await connect();
    const report = await failedReport(session.update(b, { signal: stop.signal }));
    expect(report).toMatchObject({
      outcome: 'failed',
      error: { code: 'WC_UPDATE_ABORTED' },
      engines: [{ state: 'serving-old' }, { state: 'serving-old' }],
    });
    expect(await Promise.all(urls.map(isPaused))).toEqual([false, false]);
    expect(await Promise.all(engines.map(digestsOf))).toEqual([before, before]);
    expect(await Promise.all(urls.map((url) => answer(url)))).toEqual([scores, scores]);
  });
});

it('tells engines that have a teardown to leave the group when the session ends', async () => {
  await withBench({ engines: 1, workers: 1, version: '0.32.0' }, async ({ connect, engines, b }) => {
    const session = await connect();
    await session.update(b);
    expect(await postsTo(at(engines, 0))).not.toContain('/shutdown_weight_transfer_engine');
    await session.close();
    await session.close();
    const shutdowns = (await at(engines, 0).exchanges()).filter(
      ({ path }) => path === '/shutdown_weight_transfer_engine',
    );
    expect(shutdowns.map(({ status }) => status)).toEqual([200]);
  });
});
