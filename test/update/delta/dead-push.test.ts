/** Pushes of deltas in real processes that are killed -9; the engines themselves are asked what became of them. */
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';
import { MAIN, Spawned } from '../../cli/spawned.js';
import { writeChanged } from '../../weights/changed.js';
import {
  alive,
  ends,
  env,
  holds,
  killIn,
  LONG,
  OPTIONS,
  paused,
  pushed,
  type Scene,
  silentAt,
  until,
  withScene,
} from '../scene.js';

const SPARSE = { weightTransfer: 'sparse_nccl' } as const;

async function after({ a }: Scene): Promise<string> {
  const path = join(dirname(a), 'next');
  await writeChanged(a, path, { fraction: 0.01, seed: 5 });
  return path;
}

const deltaPush = ({ a, proxies, state }: Scene, next: string, ...more: string[]) =>
  new Spawned(
    ['--no-warnings', MAIN, 'push', next, ...ends(proxies), ...OPTIONS, '--delta-from', a, ...more],
    env(state),
  );

it.each(['/start_weight_update', '/update_weights', '/finish_weight_update'])(
  'the guardian of a delta that was killed at %s heals from disk where that is allowed',
  { timeout: LONG },
  async (path) => {
    await withScene(async (scene) => {
      const next = await after(scene);
      silentAt(scene, path);
      await using pushing = deltaPush(scene, next, '--fallback', 'filesystem');
      await killIn(path, scene, pushing);
      await until(async () => (await scene.records()).length === 0);
      expect(await paused(scene)).toEqual([false, false]);
      await alive(scene);
      expect(await holds(scene, next)).toEqual([true, true]);
    }, SPARSE);
  },
);

it('without a guardian no further delta touches what a killed one left, and the fallback heals it', {
  timeout: LONG,
}, async () => {
  await withScene(async (scene) => {
    const next = await after(scene);
    silentAt(scene, '/update_weights');
    await using pushing = deltaPush(scene, next, '--no-guardian');
    await killIn('/update_weights', scene, pushing);
    const delta = [
      'push',
      next,
      ...ends(scene.proxies),
      ...OPTIONS,
      '--no-guardian',
      '--delta-from',
      scene.a,
    ];
    const refused = await pushed(scene, delta);
    expect(refused.code).toBe(3);
    expect(refused.report).toMatchObject({
      error: { code: 'WC_DELTA_BASE' },
      engines: [{ state: 'quarantined' }, { state: 'quarantined' }],
    });
    const healed = await pushed(scene, [...delta, '--fallback', 'filesystem', '--verify', 'digest']);
    expect(healed.code).toBe(0);
    expect(healed.report).toMatchObject({ outcome: 'updated', transport: 'filesystem' });
    expect(await paused(scene)).toEqual([false, false]);
    await alive(scene);
    expect(await holds(scene, next)).toEqual([true, true]);
  }, SPARSE);
});
