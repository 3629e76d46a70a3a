/** What an update makes of engines that answer late or not at all, are down, or were restarted. */
import { expect, it } from 'vitest';
import { startReferenceEngine } from '../../../src/testing/index.js';
import { answer, digestsOf, failedReport, isPaused, postsTo, withBench } from '../support.js';
import { at, withProxies } from './support.js';

it('waits one deadline for an engine that never answers, and not longer for the others', async () => {
  await withProxies({ engines: 2 }, async ({ connect, engines, urls, proxies, b }) => {
    at(proxies, 0).on('/start_weight_update', { kind: 'silence' });
    // The other one opens its session and can then not be asked to close it either.
    at(proxies, 1).on('/finish_weight_update', { kind: 'silence' });
    let transferAt = 0;
    const session = await connect({
      timeouts: { update: 4_000 },
      onEvent: (event) => {
        if (event.kind === 'phase' && event.phase === 'transfer') transferAt = performance.now();
      },
    });
    const report = await failedReport(session.update(b));
    // One deadline and the second of law 2, and two more for a busy machine; two deadlines would be eight.
    expect(performance.now() - transferAt).toBeLessThan(7_000);
    expect(report.engines.map(({ state }) => state)).toEqual(['quarantined', 'quarantined']);
    expect(report.error?.code).toBe('WC_ENGINE_TIMEOUT');
    expect(await Promise.all(urls.map(isPaused))).toEqual([true, true]);
    // The silent one was asked for nothing after that but to end the session that it may have opened.
    const { posts } = at(proxies, 0);
    expect(posts.slice(posts.indexOf('/start_weight_update') + 1)).toEqual(['/finish_weight_update']);
    for (const engine of engines) expect(await postsTo(engine)).not.toContain('/resume');
  });
});

it('still restores the others when one engine used up the deadline by its silence', async () => {
  await withProxies({ engines: 2 }, async ({ connect, urls, proxies, b }) => {
    const before = await answer(at(urls, 1));
    at(proxies, 0).on('/start_weight_update', { kind: 'silence' });
    const session = await connect({ timeouts: { update: 1_000 } });
    const report = await failedReport(session.update(b));
    expect(report.engines.map(({ state }) => state)).toEqual(['quarantined', 'serving-old']);
    expect(await Promise.all(urls.map(isPaused))).toEqual([true, false]);
    expect(await answer(at(urls, 1))).toEqual(before);
  });
});

it.each(['drop', 'lose'] as const)(
  'sends a receive once, also when its connection fails (%s), and does not resume the engine',
  async (kind) => {
    await withProxies({}, async ({ connect, engines, urls, proxies, b }) => {
      at(proxies, 0).on('/update_weights', { kind });
      const session = await connect({ timeouts: { update: 5_000 } });
      const report = await failedReport(session.update(b));
      expect(report.outcome).toBe('quarantined');
      expect(at(proxies, 0).posts.filter((path) => path === '/update_weights')).toHaveLength(1);
      expect(await isPaused(at(urls, 0))).toBe(true);
      expect(await postsTo(at(engines, 0))).not.toContain('/resume');
    });
  },
);

// The restarted engine has 100 ms to refuse; a machine that is busy elsewhere may take longer.
it('does not send blindly into a group when engines do not say whether they were restarted', {
  retry: 2,
}, async () => {
  await withProxies({ engines: 2 }, async ({ connect, engines, urls, proxies, a, b, c }) => {
    for (const proxy of proxies) {
      proxy.on('/metrics', { kind: 'answer', status: 404, body: { detail: 'Not Found' } });
    }
    const session = await connect({ timeouts: { update: 10_000 } });
    await session.update(b);
    await at(engines, 1).kill();
    await using reborn = await startReferenceEngine({ model: a, port: at(engines, 1).port, workers: 1 });
    const [first, second] = await Promise.all([digestsOf(at(engines, 0)), digestsOf(reborn)]);

    const report = await failedReport(session.update(c));
    expect(report.outcome).toBe('failed');
    expect(report.error?.message).toContain('not initialized');
    expect(await Promise.all(urls.map(isPaused))).toEqual([false, false]);
    expect(await Promise.all([digestsOf(at(engines, 0)), digestsOf(reborn)])).toEqual([first, second]);

    expect(await session.update(c)).toMatchObject({ outcome: 'updated', nccl: { reused: false } });
    expect(await digestsOf(reborn)).toEqual(await digestsOf(at(engines, 0)));
    await session.close();
  });
});

it('says of an engine that is down that it is unknown what it serves, and touches no other', async () => {
  await withBench({ engines: 2, workers: 1 }, async ({ connect, engines, urls, b }) => {
    const session = await connect({ timeouts: { probe: 500 } });
    await at(engines, 1).kill();
    const error: unknown = await session.update(b).catch((thrown: unknown) => thrown);
    expect((error as Error).message).toContain(`not known: ${urls[1]}`);
    expect(error).toMatchObject({
      code: 'WC_ENGINE_UNREACHABLE',
      report: { outcome: 'failed', engines: [{ state: 'serving-old' }, { state: 'unknown' }] },
    });
    expect(await postsTo(at(engines, 0))).toEqual([]);
    expect(await isPaused(at(urls, 0))).toBe(false);
  });
});
