/** What an update makes of engines that answer wrongly, or are found in a wrong state; the engines themselves are asked what became of them. */
import { expect, it } from 'vitest';
import {
  answer,
  digestsOf,
  digestsOfLoaded,
  failedReport,
  isPaused,
  post,
  postsTo,
  withBench,
} from '../support.js';
import { at, withProxies } from './support.js';

/** vLLM does so when its communicator is disabled: it answers at once and receives nothing. */
const DEAF = { kind: 'answer', body: { message: 'Weights updated' } } as const;

it('never resumes an engine that says that it received weights before any were sent', async () => {
  await withProxies({ engines: 2 }, async ({ connect, engines, urls, proxies, b }) => {
    const before = await digestsOf(at(engines, 1));
    at(proxies, 0).on('/update_weights', DEAF);
    const session = await connect();
    const report = await failedReport(session.update(b));
    expect(report).toMatchObject({
      outcome: 'quarantined',
      error: { code: 'WC_ENGINE_PROTOCOL', engine: at(proxies, 0).url },
      engines: [{ state: 'quarantined', pausedMs: null }, { state: 'serving-old' }],
    });
    expect(await Promise.all(urls.map(isPaused))).toEqual([true, false]);
    // Nothing is known of it, so nothing is asked of it any more.
    expect(at(proxies, 0).posts.at(-1)).toBe('/update_weights');
    expect(await digestsOf(at(engines, 1))).toEqual(before);
    // It was restored: with stripped layers it would die of this.
    expect(await answer(at(urls, 1))).toBeInstanceOf(Array);
  });
});

it('heals such an engine from disk where files are allowed, and proves it before it serves', async () => {
  await withProxies({}, async ({ connect, engines, urls, proxies, b }) => {
    at(proxies, 0).on('/update_weights', DEAF);
    const session = await connect({ fallback: 'filesystem' });
    const report = await session.update(b);
    expect(at(report.engines, 0)).toMatchObject({ state: 'serving-new', transport: 'filesystem' });
    expect(at(report.engines, 0).proof).toMatchObject({ method: 'digest', mismatched: [] });
    const posts = await postsTo(at(engines, 0));
    expect(posts.indexOf('/resume')).toBeGreaterThan(posts.indexOf('/weight_checker'));
    expect(posts.indexOf('/weight_checker')).toBeGreaterThan(posts.indexOf('/collective_rpc'));
    expect(await isPaused(at(urls, 0))).toBe(false);
    const held = await digestsOf(at(engines, 0));
    expect(held).toEqual(await digestsOfLoaded(at(engines, 0), b));
  });
});

it('takes over an engine whose session a dead push left open', async () => {
  await withBench({ engines: 1, workers: 1 }, async ({ connect, engines, urls, b }) => {
    await post(at(urls, 0), '/start_weight_update', {});
    const session = await connect();
    expect(await session.update(b)).toMatchObject({ outcome: 'updated', transport: 'nccl' });
    const transfer = (await postsTo(at(engines, 0))).filter((path) => path.endsWith('_weight_update'));
    expect(transfer).toEqual([
      '/start_weight_update',
      '/start_weight_update',
      '/finish_weight_update',
      '/start_weight_update',
      '/finish_weight_update',
    ]);
    const held = await digestsOf(at(engines, 0));
    expect(held).toEqual(await digestsOfLoaded(at(engines, 0), b));
  });
});

it('does not believe that such an engine holds the old version when nothing could be sent to it', async () => {
  await withProxies({ engines: 2 }, async ({ connect, engines, urls, proxies, b }) => {
    await post(at(urls, 0), '/start_weight_update', {});
    at(proxies, 1).on('/start_weight_update', { kind: 'drop' });
    const session = await connect();
    const report = await failedReport(session.update(b));
    expect(report.engines.map(({ state }) => state)).toEqual(['quarantined', 'quarantined']);
    expect(at(report.engines, 0).history.at(-1)?.reason).toContain('earlier push');
    expect(await Promise.all(urls.map(isPaused))).toEqual([true, true]);
    for (const engine of engines) expect(await postsTo(engine)).not.toContain('/resume');
  });
});

it('recovers every engine from the old directory, also those that nothing had happened to', async () => {
  await withProxies({ engines: 2 }, async ({ connect, engines, urls, proxies, b, c }) => {
    at(proxies, 0).on('/update_weights', DEAF);
    const session = await connect({ recover: c });
    const report = await failedReport(session.update(b, { version: 'new' }));
    expect(report).toMatchObject({
      outcome: 'failed',
      error: { code: 'WC_ENGINE_PROTOCOL', engine: at(proxies, 0).url },
      engines: [
        { state: 'serving-old', transport: null, proof: null, weightVersion: 'recovered:c' },
        { state: 'serving-old', transport: null, proof: null, weightVersion: 'recovered:c' },
      ],
    });
    for (const [index, engine] of engines.entries()) {
      const loads = (await engine.exchanges()).filter(({ path }) => path === '/collective_rpc');
      expect(loads.map(({ requestBody }) => JSON.parse(requestBody).kwargs)).toEqual([{ weights_path: c }]);
      expect(await isPaused(at(urls, index))).toBe(false);
      const info = await (await fetch(`${at(urls, index)}/weight_info`)).json();
      expect(info).toEqual({ weight_version: 'recovered:c' });
    }
    expect(await digestsOf(at(engines, 0))).toEqual(await digestsOf(at(engines, 1)));
    expect(await digestsOf(at(engines, 0))).toEqual(await digestsOfLoaded(at(engines, 0), c));
  });
});

it('pauses an engine whose resume was not confirmed before it loads into it', async () => {
  await withProxies({}, async ({ connect, engines, urls, proxies, b }) => {
    at(proxies, 0).on('/resume', { kind: 'rewrite', body: () => ({ status: 'odd' }) }, 1);
    const session = await connect({ fallback: 'filesystem', verify: 'none' });
    expect(await session.update(b)).toMatchObject({ outcome: 'updated' });
    const posts = await postsTo(at(engines, 0));
    expect(posts.slice(posts.indexOf('/resume'))).toEqual([
      '/resume',
      '/pause',
      '/collective_rpc',
      '/resume',
    ]);
    expect(await isPaused(at(urls, 0))).toBe(false);
  });
});

it('resets a cache that running requests hold, so that no stale score is served afterwards', async () => {
  await withBench({ engines: 1, workers: 1, tokenMs: 10 }, async ({ connect, engines, urls, b }) => {
    const url = at(urls, 0);
    const before = await answer(url);
    const running = post(url, '/v1/completions', {
      model: 'reference',
      prompt: [1, 2, 3],
      max_tokens: 120,
      temperature: 0,
    });
    await expect
      .poll(async () => (await fetch(`${url}/metrics`)).text(), { timeout: 5_000 })
      .toMatch(/^vllm:num_requests_running\{.*\} 1\.0$/m);
    const session = await connect({ clearCache: false, verify: 'none' });
    const report = await session.update(b);
    const after = await answer(url);
    expect(after).not.toEqual(before);
    const resets = (await at(engines, 0).exchanges()).filter(({ path }) => path === '/reset_prefix_cache');
    expect(resets.map(({ responseBody }) => responseBody)).toEqual([{ success: false }, { success: true }]);
    expect(report.notes.join()).toContain('prefill again');
    expect(await running).toMatchObject({ choices: [{ finish_reason: 'length' }] });
    await post(url, '/reset_prefix_cache?reset_running_requests=true');
    expect(await answer(url)).toEqual(after);
  });
});

it('quarantines an engine whose cache can not be reset', async () => {
  await withProxies({}, async ({ connect, urls, engines, proxies, b }) => {
    at(proxies, 0).on('/reset_prefix_cache', { kind: 'answer', body: { success: false } });
    const session = await connect({ clearCache: false, verify: 'none' });
    const report = await failedReport(session.update(b));
    expect(report).toMatchObject({ outcome: 'quarantined', error: { phase: 'reset' } });
    expect(await isPaused(at(urls, 0))).toBe(true);
    expect(await postsTo(at(engines, 0))).not.toContain('/resume');
  });
});

it('pauses vLLM 0.16 by wait instead of keep, so that a later push sees what a dead one left', async () => {
  const receive = { afterBroadcasts: 0, action: 'raise' } as const;
  await withBench(
    { engines: 1, workers: 1, version: '0.16.0', faults: { receive } },
    async ({ connect, engines, urls, b }) => {
      const engine = at(engines, 0);
      const first = await connect({ pauseMode: 'keep' });
      const report = await failedReport(first.update(b));
      expect(report.outcome).toBe('quarantined');
      expect(report.notes.join()).toContain('hides a keep pause');
      const pauses = (await engine.exchanges()).filter(({ path }) => path === '/pause');
      expect(pauses.map(({ query }) => new URLSearchParams(query).get('mode'))).toEqual(['wait']);
      expect(await isPaused(at(urls, 0))).toBe(true);
      await first.close();

      await engine.setFaults({});
      const second = await connect({ pauseMode: 'keep' });
      const healed = await second.update(b);
      expect(at(at(healed.engines, 0).history, 0)).toMatchObject({
        state: 'quarantined',
        reason: expect.stringContaining('found paused'),
      });
      expect(await isPaused(at(urls, 0))).toBe(false);
      const held = await digestsOf(engine);
      expect(held).toEqual(await digestsOfLoaded(engine, b));
    },
  );
});
