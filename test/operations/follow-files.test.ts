/** The orchestrator of engines that come and go: a script plays the trainer, and names who is there. */
import { cp, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { type FollowFilesOptions, followTrainerFiles } from '../../src/operations/index.js';
import type { Announcement } from '../../src/transports/filesystem/prime-rl/index.js';
import { type FleetSession, UpdateError } from '../../src/update/index.js';
import { connectFinding } from '../update/elastic-session.js';
import { type PrimeRlBench, postsOf, withPrimeRl } from '../update/prime-rl-support.js';
import { digestsOf } from '../update/support.js';

vi.setConfig({ testTimeout: 180_000 });

interface Scene extends PrimeRlBench {
  /** URLs of those who are found now. */
  readonly there: string[];
  readonly session: FleetSession;
  /** Writes a version as a trainer does: its marker comes last. */
  announce(version: number, from: string): Promise<void>;
  follow(options: Partial<FollowFilesOptions>): Promise<void>;
}

/** Two servers that load files, of which the first is found. */
async function withScene(body: (scene: Scene) => Promise<void>): Promise<void> {
  const files = { broadcast: 'filesystem' } as const;
  await withPrimeRl([files, files], async (bench) => {
    const { engines, directory } = bench;
    const broadcasts = join(directory, 'run', 'broadcasts');
    const there = [engines[0]?.url ?? ''];
    const session = await connectFinding(
      {
        ...{ backend: 'prime-rl', transport: 'filesystem', stateDir: join(directory, 'state') },
        pool: { intervalMs: 3_600_000, absences: 1 },
      },
      () => there,
    );
    try {
      await body({
        ...{ ...bench, there, session },
        announce: async (version, from) => {
          const folder = join(broadcasts, `step_${version}`);
          await cp(from, folder, { recursive: true });
          await writeFile(join(folder, 'STABLE'), '');
        },
        follow: (options) =>
          followTrainerFiles(session, {
            ...{ broadcasts, pollMs: 5, signal: AbortSignal.timeout(120_000), ...options },
          }),
      });
    } finally {
      await session.close();
    }
  });
}

/** A look begins the sync of a newcomer, and a hold waits for its end. */
async function lookedAround({ session }: Scene): Promise<readonly string[]> {
  const { pool } = session;
  await pool?.look();
  (await pool?.hold())?.();
  await pool?.look();
  return pool?.readyUrls ?? [];
}

it('puts each version on whoever is there, and brings one that comes between two versions to the last', async () => {
  await withScene(async (scene) => {
    const { engines, there, announce, follow, a, b } = scene;
    const [first, late] = engines.map(({ url }) => url) as [string, string];
    const stop = new AbortController();
    const served: number[] = [];
    await announce(1, b);
    await follow({
      signal: stop.signal,
      onUpdated: async ({ version }) => {
        served.push(version);
        if (version === 1) {
          there.push(late);
          expect(new Set(await lookedAround(scene))).toEqual(new Set([first, late]));
          const [one, other] = await Promise.all(engines.map(digestsOf));
          expect(other).toEqual(one);
          await announce(2, a);
        } else stop.abort();
      },
    });
    expect(served).toEqual([1, 2]);
    const [one, other] = await Promise.all(engines.map(digestsOf));
    expect(other).toEqual(one);
    const round = ['/pause', '/update_weights', '/resume'];
    expect(await postsOf(engines)).toEqual([
      [...round, ...round],
      [...round, ...round],
    ]);
  });
});

it('serves each version of an adapter under a name of its own, and gives a newcomer the last one', async () => {
  await withScene(async (scene) => {
    const { engines, there, announce, follow, directory } = scene;
    const [first, late] = engines.map(({ url }) => url) as [string, string];
    const adapter = join(directory, 'adapter');
    await mkdir(adapter);
    await writeFile(join(adapter, 'adapter_config.json'), '{}');
    await writeFile(join(adapter, 'adapter_model.safetensors'), '');
    const stop = new AbortController();
    const names: (string | undefined)[] = [];
    await announce(1, adapter);
    await follow({
      signal: stop.signal,
      loraName: 'student',
      onUpdated: async ({ version }, adapters) => {
        names.push(adapters.get(first));
        if (version === 2) return stop.abort();
        there.push(late);
        expect(new Set(await lookedAround(scene))).toEqual(new Set([first, late]));
        await announce(2, adapter);
      },
    });
    expect(names).toEqual([
      expect.stringMatching(/^student-v1-\d+$/),
      expect.stringMatching(/^student-v2-\d+$/),
    ]);
    for (const engine of engines) {
      const loads = (await engine.exchanges()).filter(({ path }) => path === '/load_lora_adapter');
      expect(
        loads.map(({ requestBody }) => (JSON.parse(requestBody) as { lora_name: string }).lora_name),
      ).toEqual(names);
      expect((await postsOf([engine]))[0]).not.toContain('/pause');
    }
  });
});

it('tells of a version that not all serve, and goes on with the next; without a listener it ends', async () => {
  await withScene(async (scene) => {
    const { engines, announce, follow, session, directory, a, b } = scene;
    const [engine] = engines;
    const broken = join(directory, 'broken');
    await cp(b, broken, { recursive: true });
    const [shard = ''] = (await readdir(broken)).filter((name) => name.endsWith('.safetensors'));
    await writeFile(join(broken, shard), 'no weights');
    await announce(1, broken);
    await expect(follow({})).rejects.toThrow();
    expect((await postsOf(engines))[0]).toEqual([]);

    const stop = new AbortController();
    const failed: [number, string | null][] = [];
    await follow({
      signal: stop.signal,
      onFailed: async ({ version }: Announcement, error) => {
        failed.push([version, error instanceof UpdateError ? error.report.outcome : null]);
        await announce(2, a);
      },
      onUpdated: () => stop.abort(),
    });
    expect(failed).toEqual([[1, 'failed']]);
    expect(session.engines.map(({ url }) => url)).toEqual([engine?.url]);
    expect((await postsOf(engines))[0]).toEqual(['/pause', '/update_weights', '/resume']);
  });
});
