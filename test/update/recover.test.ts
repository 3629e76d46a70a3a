/** `weightcast recover` and `weightcast doctor` after pushes that were killed. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { RecoveryReport } from '../../src/update/recover.js';
import { weightcast } from '../cli/spawned.js';
import {
  alive,
  ends,
  env,
  holds,
  killIn,
  LONG,
  paused,
  pushed,
  ranksWaitingFor,
  type Scene,
  silentAt,
  until,
  withScene,
} from './scene.js';

describe('weightcast recover', () => {
  const recover = async ({ proxies, state }: Scene, ...more: string[]) => {
    const { code, out, err } = await weightcast(['recover', ...ends(proxies), '--json', ...more], env(state));
    if (out === '') throw new Error(err);
    return { code, report: JSON.parse(out) as RecoveryReport };
  };
  const doctor = ({ proxies, state }: Scene) =>
    weightcast(['doctor', ...ends(proxies), '-t', 'filesystem'], env(state));

  it('resumes what was untouched, after doctor has named it', { timeout: LONG }, async () => {
    await withScene(async (scene) => {
      silentAt(scene, '/pause');
      await using pushing = scene.push('--no-guardian');
      await killIn('/pause', scene, pushing);
      expect(await doctor(scene)).toMatchObject({
        code: 1,
        out: expect.stringMatching(/ended and left it paused and untouched\n.*weightcast recover -e http/),
      });
      expect(await recover(scene)).toMatchObject({
        code: 0,
        report: { outcome: 'recovered', found: [expect.stringContaining(`push of ${scene.b} by process`)] },
      });
      expect(await paused(scene)).toEqual([false, false]);
      expect(await holds(scene, scene.a)).toEqual([true, true]);
      expect(await scene.records()).toEqual([]);
      expect(await recover(scene)).toMatchObject({ code: 0, report: { found: [] } });
    });
  });

  it('says what it can not put right, and loads a directory that it is given', {
    timeout: LONG,
  }, async () => {
    await withScene(async (scene) => {
      silentAt(scene, '/start_weight_update');
      await using pushing = scene.push('--no-guardian');
      await killIn('/start_weight_update', scene, pushing);
      const first = await recover(scene);
      expect(first).toMatchObject({
        code: 3,
        report: { outcome: 'quarantined', engines: [{ state: 'quarantined' }, { state: 'quarantined' }] },
      });
      expect(await paused(scene)).toEqual([true, true]);
      const missing = await recover(scene, '--from', join(scene.c, 'nowhere')).catch(String);
      expect(missing).toMatchObject({ code: 1, report: { error: { code: 'WC_CHECKPOINT_NOT_FOUND' } } });
      expect(await recover(scene, '--from', scene.c)).toMatchObject({
        code: 0,
        report: { engines: [{ state: 'serving-new' }, { proof: { mismatched: [] } }] },
      });
      expect(await paused(scene)).toEqual([false, false]);
      await alive(scene);
      expect(await holds(scene, scene.c)).toEqual([true, true]);
    });
  });

  it('does what the push that died was allowed to do, also at the second try', {
    timeout: LONG,
  }, async () => {
    await withScene(async (scene) => {
      silentAt(scene, '/start_weight_update');
      await using pushing = scene.push('--no-guardian', '--fallback', 'filesystem');
      await killIn('/start_weight_update', scene, pushing);
      for (const proxy of scene.proxies) {
        proxy.on('/collective_rpc', { kind: 'answer', status: 500, body: { error: 'no' } });
      }
      expect(await recover(scene, '--timeout-update', '2')).toMatchObject({ code: 3 });
      for (const proxy of scene.proxies) proxy.clear();
      expect(await recover(scene)).toMatchObject({ code: 0, report: { outcome: 'recovered' } });
      expect(await holds(scene, scene.b)).toEqual([true, true]);
    });
  });

  it('leaves engines alone that a push is updating', { timeout: LONG }, async () => {
    await withScene(async (scene) => {
      silentAt(scene, '/pause');
      await using pushing = scene.push('--no-guardian');
      await until(() => scene.proxies[1]?.posts.includes('/pause') === true);
      const { code, out } = await weightcast(['recover', ...ends(scene.proxies), '--json'], env(scene.state));
      expect({ code, error: JSON.parse(out).error.code }).toEqual({ code: 1, error: 'WC_UPDATE_BUSY' });
      expect((await doctor(scene)).out).toContain(
        `is held by the push of ${scene.b} by process ${pushing.pid}`,
      );
      pushing.signal('SIGKILL');
      await pushing.ended;
    });
  });
});

it('names the one thing that nobody can put right: engines that wait in NCCL for a rank that was killed', {
  timeout: LONG,
}, async () => {
  await withScene(async (scene) => {
    await using pushing = scene.pushWith('init-delay=600000');
    await until(async () => (await ranksWaitingFor(pushing.pid)) === scene.engines.length);
    pushing.signal('SIGKILL');
    await pushing.ended;
    const stuck = /ended while (this engine|it) joined .*NCCL group.*wait for a rank that is gone/;
    const push = ['push', scene.b, ...ends(scene.proxies), '-t', 'filesystem', '--timeout-probe', '1'];
    expect(await pushed(scene, push)).toMatchObject({
      code: 1,
      report: {
        outcome: 'failed',
        error: { message: expect.stringMatching(stuck), remedy: expect.stringContaining('Restart it') },
        // Each by its name, or the summary shows one of them.
        engines: scene.proxies.map(({ url }) => ({
          error: { message: expect.stringMatching(new RegExp(`^${url} .*${stuck.source}`)) },
        })),
      },
    });
    const doctor = await weightcast(
      ['doctor', ...ends(scene.proxies), '-t', 'filesystem', '--timeout-probe', '1'],
      env(scene.state),
    );
    expect(doctor).toMatchObject({ code: 1, out: expect.stringMatching(stuck) });
    const recovered = await weightcast(
      ['recover', ...ends(scene.proxies), '--timeout-probe', '1', '--json'],
      env(scene.state),
    );
    expect(recovered.code).toBe(3);
    expect(recovered.out).toMatch(stuck);
    // Nor does the recovery make anybody forget.
    const error = { message: expect.stringMatching(stuck), remedy: expect.stringContaining('Restart it') };
    expect(await pushed(scene, push)).toMatchObject({ code: 1, report: { error } });
  });
});
