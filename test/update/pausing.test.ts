import { expect, it, vi } from 'vitest';
import { type ScriptedProxy, scriptedProxy } from './proxy.js';
import { type Bench, failedReport, isPaused, withBench } from './support.js';

vi.setConfig({ testTimeout: 120_000 });

/** Two engines behind proxies. */
async function withProxies(
  body: (bench: Bench & { readonly proxies: readonly ScriptedProxy[] }) => Promise<void>,
): Promise<void> {
  await withBench({ engines: 2, workers: 1, tokenMs: 20 }, async (bench) => {
    await using one = await scriptedProxy(bench.urls[0] as string);
    await using two = await scriptedProxy(bench.urls[1] as string);
    const proxies = [one, two];
    await body({
      ...bench,
      proxies,
      connect: (more) => bench.connect({ engines: proxies.map(({ url }) => url), verify: 'none', ...more }),
    });
  });
}

const KEEP_REFUSED = {
  error: { message: 'Cannot pause generation in keep mode with active LoRA requests: a', code: 500 },
};

it('pauses by wait, and says so, an engine that cannot pause by keep now', async () => {
  await withProxies(async ({ proxies, connect, b }) => {
    proxies[0]?.on('/pause', { kind: 'answer', status: 500, body: KEEP_REFUSED }, 1);
    const report = await (await connect()).update(b);
    expect(report.outcome).toBe('updated');
    expect(report.notes).toEqual([
      expect.stringMatching(/^http\S+: can't pause by keep now \(.*LoRA requests.*\), so it pauses by wait$/),
    ]);
    expect(proxies.map(({ posts }) => posts.filter((path) => path === '/pause').length)).toEqual([2, 1]);
  });
});

it('resumes everybody when the other mode is refused too', async () => {
  await withProxies(async ({ proxies, connect, urls, b }) => {
    proxies[0]?.on('/pause', { kind: 'answer', status: 400, body: KEEP_REFUSED });
    const report = await failedReport((await connect()).update(b));
    expect(report.outcome).toBe('failed');
    expect(report.error?.message).toContain('LoRA requests');
    expect(proxies[0]?.posts.filter((path) => path === '/pause').length).toBe(2);
    expect(await Promise.all(urls.map(isPaused))).toEqual([false, false]);
  });
});

it('counts the requests that a pause by abort cuts short', async () => {
  await withProxies(async ({ connect, urls, engines, b }) => {
    const running = fetch(`${urls[0]}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'reference', prompt: [1, 2, 3], max_tokens: 4_000, temperature: 0 }),
    });
    const isRunning = async () => /num_requests_running\{.*\} 1/.test(await metrics(engines[0]?.url ?? ''));
    await expect.poll(isRunning, { timeout: 20_000 }).toBe(true);
    const report = await (await connect({ pauseMode: 'abort' })).update(b);
    expect(report.notes.filter((note) => note.includes('cut them short'))).toEqual([
      expect.stringContaining('1 request was running'),
    ]);
    expect((await running).status).toBe(200);
  });
});

async function metrics(url: string): Promise<string> {
  return (await fetch(`${url}/metrics`)).text();
}

it('asks an engine that did not answer to its resume whether it has resumed', async () => {
  await withProxies(async ({ proxies, connect, urls, b }) => {
    proxies[1]?.on('/resume', { kind: 'late', until: Promise.resolve() });
    const report = await (await connect({ timeouts: { resume: 1_000 } })).update(b);
    expect(report.outcome).toBe('updated');
    expect(report.notes).toEqual([expect.stringContaining('its resume was not answered')]);
    expect(await Promise.all(urls.map(isPaused))).toEqual([false, false]);
  });
});

it('believes no resume of an engine that says it is still paused', async () => {
  await withProxies(async ({ proxies, connect, b }) => {
    proxies[1]?.on('/resume', { kind: 'silence' });
    const report = await failedReport((await connect({ timeouts: { resume: 1_000 } })).update(b));
    expect(report.engines.map(({ state }) => state)).toEqual(['serving-new', 'quarantined']);
    expect(report.engines[1]?.history.at(-1)?.reason).toContain('may be serving, or serve later');
  });
});
