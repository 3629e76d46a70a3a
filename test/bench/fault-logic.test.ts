/** The peers' logic does what its sources do: on a healthy fleet it pushes, and under a fault it makes just the calls that the peer would make. */
import { expect, it, vi } from 'vitest';
import { Clock, type PeerLogic } from '../../bench/peers/fault-logic/peer.js';
import { primeRl } from '../../bench/peers/fault-logic/prime-rl.js';
import { vllmTrainer, vllmTrainerPerServer } from '../../bench/peers/fault-logic/vllm-trainer.js';
import type { VllmVersion } from '../../src/testing/index.js';
import { type ScriptedProxy, scriptedProxy } from '../update/proxy.js';
import { type Bench, digestsOf, digestsOfLoaded, isPaused, postsTo, withBench } from '../update/support.js';

// Fleets are started for each test, and its waits are the peers' own.
vi.setConfig({ testTimeout: 120_000 });

interface PeerBench extends Bench {
  readonly proxies: readonly [ScriptedProxy, ScriptedProxy];
  push(logic: PeerLogic, signal?: AbortSignal): Promise<void>;
}

/** Two engines of one worker, reached through proxies. */
function withPeer(version: VllmVersion, body: (bench: PeerBench) => Promise<void>): Promise<void> {
  return withBench({ engines: 2, workers: 1, version }, async (bench) => {
    const proxies = await Promise.all(bench.urls.map(scriptedProxy));
    try {
      await body({
        ...bench,
        proxies: proxies as [ScriptedProxy, ScriptedProxy],
        push: (logic, signal = new AbortController().signal) =>
          logic({
            engines: proxies.map(({ url }) => ({ url, workers: 1 })),
            checkpoint: bench.b,
            packedBufferBytes: 50_000,
            // A second of the sources in 10 ms.
            clock: new Clock({ msPerSecond: 10, shortestMs: 5_000 }),
            signal,
          }),
      });
    } finally {
      await Promise.all(proxies.map((proxy) => proxy[Symbol.asyncDispose]()));
    }
  });
}

const statusOf = (status: number) => ({ kind: 'answer', status, body: { error: 'injected' } }) as const;

const THREE_STEPS = [
  '/init_weight_transfer_engine',
  '/pause',
  '/start_weight_update',
  '/update_weights',
  '/finish_weight_update',
  '/resume',
] as const;

it.each([
  ['prime-rl', primeRl, '0.20.2', ['/init_weight_transfer_engine', '/pause', '/update_weights', '/resume']],
  ["vLLM's trainer client", vllmTrainer, '0.32.0', THREE_STEPS],
  ["vLLM's trainer client, a group a server", vllmTrainerPerServer, '0.32.0', THREE_STEPS],
] as const)(
  '%s pushes to a healthy fleet, twice, with its calls in its order',
  async (_, logic, version, order) => {
    await withPeer(version, async ({ push, engines, urls, b }) => {
      await push(logic);
      for (const engine of engines) expect(await postsTo(engine)).toEqual(order);
      await push(logic);
      expect(await Promise.all(urls.map(isPaused))).toEqual([false, false]);
      const held = await Promise.all(engines.map(digestsOf));
      expect(held).toEqual(await Promise.all(engines.map((engine) => digestsOfLoaded(engine, b))));
    });
  },
);

it('prime-rl retries an update that a server refused with 500, and never resumes after a pause that failed', async () => {
  await withPeer('0.20.2', async ({ push, proxies, urls }) => {
    proxies[1].on('/pause', statusOf(400));
    await expect(push(primeRl)).rejects.toThrow('/pause answered 400');
    expect(proxies.flatMap(({ posts }) => posts)).not.toContain('/resume');
    await expect.poll(() => isPaused(urls[0] as string)).toBe(true);

    proxies[1].clear();
    proxies[1].on('/update_weights', statusOf(500), 1);
    await push(primeRl);
    expect(proxies[1].posts.filter((path) => path === '/update_weights')).toHaveLength(2);
    expect(await Promise.all(urls.map(isPaused))).toEqual([false, false]);
  });
});

it('prime-rl resumes in its finally while the requests of other engines run on, and gives up after ten attempts', async () => {
  await withPeer('0.20.2', async ({ push, proxies }) => {
    proxies[0].on('/update_weights', statusOf(500));
    await expect(push(primeRl)).rejects.toThrow('/update_weights answered 500');
    expect(proxies[0].posts.filter((path) => path === '/update_weights')).toHaveLength(10);
    expect(proxies[0].posts.at(-1)).toBe('/resume');
    expect(proxies[1].posts).toContain('/resume');
  });
});

it("vLLM's trainer client asks once, and leaves everybody paused when a step fails", async () => {
  await withPeer('0.32.0', async ({ push, proxies, urls }) => {
    proxies[1].on('/start_weight_update', statusOf(500), 1);
    await expect(push(vllmTrainer)).rejects.toThrow('/start_weight_update answered 500');
    for (const { posts } of proxies) {
      expect(posts.filter((path) => path === '/start_weight_update')).toHaveLength(1);
      expect(posts).not.toContain('/resume');
    }
    expect(await Promise.all(urls.map(isPaused))).toEqual([true, true]);
  });
});

it.each([
  ['prime-rl', primeRl, '0.20.2'],
  ["vLLM's trainer client", vllmTrainer, '0.32.0'],
] as const)('%s makes no call after its processes were killed', async (_, logic, version) => {
  await withPeer(version, async ({ push, proxies, engines }) => {
    const kill = new AbortController();
    for (const engine of engines) {
      await engine.setFaults({ receive: { afterBroadcasts: 0, action: 'stall' } });
    }
    const asked = new Promise<void>((resolve) => {
      proxies[1].on('/update_weights', { kind: 'watch', seen: resolve }, 1);
    });
    const pushed = push(logic, kill.signal);
    pushed.catch(() => undefined);
    await asked;
    kill.abort();
    await expect(pushed).rejects.toThrow('killed');
    for (const engine of engines) expect(await postsTo(engine)).not.toContain('/resume');
    expect(proxies[1].posts.at(-1)).toBe('/update_weights');
  });
});
