/** What an update makes of engines that answer wrongly, late or not at all; the engines themselves are asked what became of them. */
import { stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type SimulateOptions, startReferenceEngine } from '../../src/testing/index.js';
import type { FleetSession } from '../../src/update/index.js';
import type { FleetOptions } from '../../src/update/types.js';
import { type ScriptedProxy, scriptedProxy } from './proxy.js';
import {
  answer,
  type Bench,
  digestsOf,
  digestsOfLoaded,
  failedReport,
  isPaused,
  post,
  postsTo,
  withBench,
} from './support.js';

interface ProxiedBench extends Bench {
  readonly proxies: readonly ScriptedProxy[];
}

/** A bench whose sessions reach every engine through a proxy. */
function withProxies(options: SimulateOptions, body: (bench: ProxiedBench) => Promise<void>): Promise<void> {
  return withBench({ engines: 1, workers: 1, ...options }, async (bench) => {
    const proxies = await Promise.all(bench.urls.map(scriptedProxy));
    const sessions: FleetSession[] = [];
    try {
      const connect = async (more: Partial<FleetOptions> = {}) => {
        const session = await bench.connect({ engines: proxies.map(({ url }) => url), ...more });
        sessions.push(session);
        return session;
      };
      await body({ ...bench, proxies, connect });
    } finally {
      await Promise.all(sessions.map((session) => session.close()));
      await Promise.all(proxies.map((proxy) => proxy[Symbol.asyncDispose]()));
    }
  });
}

/** Item `index` of a list that is long enough. */
function at<T>(list: readonly T[], index: number): T {
  const item = list[index];
  if (item === undefined) throw new RangeError(`no item ${index}`);
  return item;
}

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

it('does not report what a digest said of the new version once an engine serves the old one again', async () => {
  await withProxies({}, async ({ connect, engines, urls, proxies, a, b }) => {
    const before = await digestsOf(at(engines, 0));
    const wrong = { 'dp0:pp0:pcp0:tp0:model.norm.weight': '0'.repeat(64) };
    at(proxies, 0).on('/weight_checker', { kind: 'answer', body: { checksums: wrong } }, 1);
    const session = await connect({ recover: a, verify: 'digest' });
    const report = await failedReport(session.update(b));
    expect(report).toMatchObject({
      outcome: 'failed',
      error: { code: 'WC_VERIFY_MISMATCH' },
      engines: [{ state: 'serving-old', proof: null, transport: null }],
    });
    expect(await digestsOf(at(engines, 0))).toEqual(before);
    expect(await isPaused(at(urls, 0))).toBe(false);
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

it('waits one deadline for an engine that never answers, and not longer for the others', async () => {
  await withProxies({ engines: 2 }, async ({ connect, engines, urls, proxies, b }) => {
    at(proxies, 0).on('/start_weight_update', { kind: 'silence' });
    // The other one opens its session and can then not be asked to close it either.
    at(proxies, 1).on('/finish_weight_update', { kind: 'silence' });
    let transferAt = 0;
    const session = await connect({
      timeouts: { update: 1_000 },
      onEvent: (event) => {
        if (event.kind === 'phase' && event.phase === 'transfer') transferAt = performance.now();
      },
    });
    const report = await failedReport(session.update(b));
    // Law 2 says one second; the rest is for a busy machine.
    expect(performance.now() - transferAt).toBeLessThan(2_500);
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

it('harms nobody when no engine will score the prompt: the update stands, unproved', async () => {
  await withProxies({ engines: 2 }, async ({ connect, engines, urls, proxies, b }) => {
    for (const proxy of proxies) {
      proxy.on('/v1/completions', {
        kind: 'answer',
        status: 400,
        body: { error: { message: 'prompt_logprobs is not allowed here', code: 400 } },
      });
    }
    const session = await connect({ verify: 'fingerprint' });
    const report = await session.update(b);
    expect(report.outcome).toBe('updated');
    for (const { proof } of report.engines) {
      expect(proof).toMatchObject({ method: 'none', proved: 0 });
      expect(proof?.note).toContain('prompt_logprobs is not allowed here');
    }
    expect(await Promise.all(urls.map(isPaused))).toEqual([false, false]);
    for (const engine of engines) {
      expect((await postsTo(engine)).filter((path) => path === '/pause')).toHaveLength(1);
    }
    expect(await digestsOf(at(engines, 0))).toEqual(await digestsOf(at(engines, 1)));
  });
});

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

it('proves the first update that succeeds by digest, however many failed before it', async () => {
  await withProxies({}, async ({ connect, urls, proxies, b, c }) => {
    at(proxies, 0).on('/pause', { kind: 'answer', status: 400, body: { error: 'not now' } }, 1);
    const session = await connect();
    const failed = await failedReport(session.update(b));
    expect(failed).toMatchObject({ outcome: 'failed', engines: [{ state: 'serving-old' }] });
    expect(await isPaused(at(urls, 0))).toBe(false);
    const updated = await session.update(b);
    expect(at(updated.engines, 0).proof).toMatchObject({ method: 'digest', mismatched: [] });
    expect(at(updated.engines, 0).proof?.proved).toBeGreaterThan(0);
    // From then on it is known to work.
    expect(at((await session.update(c)).engines, 0).proof?.method).not.toBe('digest');
  });
});

it('refuses to prove by digest, before anybody is paused, where an engine has no checker', async () => {
  await withBench({ engines: 1, workers: 1, version: '0.30.0' }, async ({ connect, engines, b }) => {
    const session = await connect({ verify: 'digest' });
    const report = await failedReport(session.update(b));
    expect(report).toMatchObject({ outcome: 'failed', error: { code: 'WC_CONFIG_INVALID' } });
    expect(await postsTo(at(engines, 0))).toEqual([]);
  });
});

it('does not let an engine serve whose checker says too little or too much, and takes no long time over it', async () => {
  await withProxies({ workers: 2 }, async ({ connect, engines, urls, proxies, b }) => {
    const proxy = at(proxies, 0);
    const renamed = (rename: (key: string) => string | null) => ({
      kind: 'rewrite' as const,
      body: (body: unknown) => {
        const { checksums } = body as { checksums: Record<string, string> };
        const entries = Object.entries(checksums).flatMap(([key, sum]) => {
          const name = rename(key);
          return name === null ? [] : [[name, sum] as const];
        });
        return { checksums: Object.fromEntries(entries) };
      },
    });
    const session = await connect({ verify: 'digest' });
    for (const [rename, message] of [
      [(key: string) => (key.includes(':tp0:') ? null : key), 'reports 1 of 2 workers'],
      [(key: string) => key.replace(':tp1:', ':tp9999:'), '10000 tensor-parallel workers and has 2'],
    ] as const) {
      proxy.clear();
      proxy.on('/weight_checker', renamed(rename));
      const began = performance.now();
      const report = await failedReport(session.update(b));
      expect(performance.now() - began).toBeLessThan(8_000);
      expect(report.outcome).toBe('quarantined');
      expect(report.error?.message).toContain(message);
      expect(await isPaused(at(urls, 0))).toBe(true);
      expect(await postsTo(at(engines, 0))).not.toContain('/resume');
    }
    proxy.clear();
    expect(await session.update(b)).toMatchObject({ outcome: 'updated' });
    expect(await isPaused(at(urls, 0))).toBe(false);
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
