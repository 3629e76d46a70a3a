/** What an update makes of engines whose bytes it cannot prove, or is told odd things about. */
import { expect, it } from 'vitest';
import { digestsOf, failedReport, isPaused, postsTo, withBench } from '../support.js';
import { at, withProxies } from './support.js';

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
