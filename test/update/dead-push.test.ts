/** Pushes of real processes that are killed -9 in each phase, with a guardian and without; the engines themselves are asked what became of them. */
import { watch } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { thisProcess } from '../../src/holder.js';
import { processesWith } from '../cli/spawned.js';
import {
  alive,
  ends,
  holds,
  killIn,
  LONG,
  OPTIONS,
  paused,
  pushed,
  silentAt,
  until,
  withScene,
} from './scene.js';
import { type Bench, postsTo } from './support.js';

describe('a guardian', () => {
  it('resumes engines that were paused and untouched', { timeout: LONG }, async () => {
    await withScene(async (scene) => {
      silentAt(scene, '/pause');
      await using pushing = scene.push();
      await killIn('/pause', scene, pushing);
      await until(async () => (await scene.records()).length === 0);
      expect(await paused(scene)).toEqual([false, false]);
      await alive(scene);
      for (const engine of scene.engines) expect(await postsTo(engine)).not.toContain('/start_weight_update');
      expect(await holds(scene, scene.a)).toEqual([true, true]);
    });
  });

  it.each([
    ['when update sessions were opened', '/start_weight_update'],
    ['while engines receive', '/update_weights'],
    ['when one had finished and one had not', '/finish_weight_update'],
    ['when nothing was proved yet', '/weight_checker'],
    ['before the resume', '/resume'],
  ])(
    '%s heals from disk where that is allowed: every engine serves the new version',
    { timeout: LONG },
    async (_, path) => {
      await withScene(async (scene) => {
        silentAt(scene, path);
        await using pushing = scene.push('--fallback', 'filesystem');
        await killIn(path, scene, pushing);
        await until(async () => (await scene.records()).length === 0);
        expect(await paused(scene)).toEqual([false, false]);
        await alive(scene);
        expect(await holds(scene, scene.b)).toEqual([true, true]);
      });
    },
  );

  it('recovers every engine from the old directory where only that is allowed', {
    timeout: LONG,
  }, async () => {
    await withScene(async (scene) => {
      silentAt(scene, '/start_weight_update');
      await using pushing = scene.push('--recover', scene.c);
      await killIn('/start_weight_update', scene, pushing);
      await until(async () => (await scene.records()).length === 0);
      expect(await paused(scene)).toEqual([false, false]);
      await alive(scene);
      expect(await holds(scene, scene.c)).toEqual([true, true]);
    });
  });

  it('resumes what was whole after it has proved it, and leaves the rest paused and written down', {
    timeout: LONG,
  }, async () => {
    await withScene(async (scene) => {
      silentAt(scene, '/finish_weight_update');
      await using pushing = scene.push();
      await killIn('/finish_weight_update', scene, pushing);
      await until(async () => (await scene.records()).every((record) => record?.left === true));
      expect(await paused(scene)).toEqual([false, true]);
      const posts = await postsTo(scene.engines[0] as Bench['engines'][number]);
      expect(posts.lastIndexOf('/resume')).toBeGreaterThan(posts.lastIndexOf('/weight_checker'));
      expect(await scene.records()).toMatchObject([
        { head: { role: 'guardian' }, engines: [{ state: 'serving-new' }, { state: 'quarantined' }] },
      ]);
      expect((await holds(scene, scene.b))[0]).toBe(true);
    });
  });

  it('never resumes what may hold neither version', { timeout: LONG }, async () => {
    await withScene(async (scene) => {
      silentAt(scene, '/start_weight_update');
      await using pushing = scene.push();
      await killIn('/start_weight_update', scene, pushing);
      await until(async () => (await scene.records()).every((record) => record?.left === true));
      expect(await paused(scene)).toEqual([true, true]);
      for (const engine of scene.engines) expect(await postsTo(engine)).not.toContain('/resume');
    });
  });

  it('waits for a push that came first, and does its work when that one ends without having done it', {
    timeout: LONG,
  }, async () => {
    await withScene(async (scene) => {
      silentAt(scene, '/pause');
      await using pushing = scene.push();
      await until(() => scene.proxies.every(({ posts }) => posts.includes('/pause')));
      await until(async () => (await paused(scene))[0] === true);
      // What holds the engines next is there before the coordinator is gone, as a supervisor's push is at once.
      const [first] = await scene.records();
      const head = { ...first?.head, id: '0-1', holder: await thisProcess() };
      const blocker = join(scene.state, '0-1.push');
      await writeFile(blocker, `${JSON.stringify(head)}\n{"event":"held"}\n`);
      const seen = new Set<string>();
      const watcher = watch(scene.state, (_, name) => void (name?.endsWith('.push') && seen.add(name)));
      pushing.signal('SIGKILL');
      await pushing.ended;
      // It has tried when a record of its own has come and gone.
      const tries = () => [...seen].filter((name) => ![`${first?.head.id}.push`, '0-1.push'].includes(name));
      await until(async () => tries().length > 0 && (await scene.records()).length === 2);
      watcher.close();
      expect(await paused(scene)).toEqual([true, false]);
      await rm(blocker);
      await until(async () => (await scene.records()).length === 0);
      expect(await paused(scene)).toEqual([false, false]);
    });
  });

  it('is gone when a push has ended well, and leaves nothing', { timeout: LONG }, async () => {
    await withScene(async (scene) => {
      await using pushing = scene.push();
      expect(await pushing.ended).toMatchObject({ code: 0 });
      expect(await processesWith(`WEIGHTCAST_STATE_DIR=${scene.state}`)).toEqual([]);
      expect(await scene.records()).toEqual([]);
    });
  });

  it('and its own death do not hurt a push', { timeout: LONG }, async () => {
    await withScene(async (scene) => {
      silentAt(scene, '/pause');
      await using pushing = scene.push();
      await until(() => scene.proxies[1]?.posts.includes('/pause') === true);
      const [guardian] = (await processesWith(`WEIGHTCAST_STATE_DIR=${scene.state}`)).filter(
        (pid) => Number(pid) !== pushing.pid,
      );
      process.kill(Number(guardian), 'SIGKILL');
      pushing.signal('SIGINT');
      const { code, out, err } = await pushing.ended;
      expect({ code, text: out + err }).toMatchObject({
        code: 1,
        text: expect.stringContaining('interrupted'),
      });
      expect(await paused(scene)).toEqual([false, false]);
    });
  });
});

describe('without a guardian', () => {
  it('the next push resumes what was untouched before it begins, and says so', {
    timeout: LONG,
  }, async () => {
    await withScene(async (scene) => {
      silentAt(scene, '/pause');
      await using pushing = scene.push('--no-guardian');
      await killIn('/pause', scene, pushing);
      expect(await paused(scene)).toEqual([true, false]);
      expect(await processesWith(`WEIGHTCAST_STATE_DIR=${scene.state}`)).toEqual([]);
      const { report } = await pushed(scene, ['push', scene.b, ...ends(scene.proxies), ...OPTIONS]);
      expect(report).toMatchObject({
        outcome: 'updated',
        notes: [expect.stringContaining('paused and untouched: resumed'), expect.any(String)],
        engines: [{ history: [{ state: 'serving-old' }, {}, {}, {}, {}, {}] }, {}],
      });
      expect(await scene.records()).toEqual([]);
    });
  });

  it('the next push heals opened sessions by its own bytes, and says what it found', {
    timeout: LONG,
  }, async () => {
    await withScene(async (scene) => {
      silentAt(scene, '/start_weight_update');
      await using pushing = scene.push('--no-guardian');
      await killIn('/start_weight_update', scene, pushing);
      const { report } = await pushed(scene, ['push', scene.b, ...ends(scene.proxies), ...OPTIONS]);
      expect(report.outcome).toBe('updated');
      expect(report.engines[0]?.history[0]).toMatchObject({
        state: 'quarantined',
        reason: expect.stringMatching(/^found paused: the push of .* ended and left it between two versions/),
      });
      await alive(scene);
      expect(await holds(scene, scene.b)).toEqual([true, true]);
      expect(await scene.records()).toEqual([]);
    });
  });
});

it('a second push is refused before anything is asked of an engine', { timeout: LONG }, async () => {
  await withScene(async (scene) => {
    silentAt(scene, '/pause');
    await using pushing = scene.push();
    await until(() => scene.proxies.every(({ posts }) => posts.includes('/pause')));
    // What went through to an engine is asked until it stands still: a request may be on its way from the proxy.
    let before = await Promise.all(scene.engines.map(postsTo));
    await until(async () => {
      const last = before;
      before = await Promise.all(scene.engines.map(postsTo));
      return before[0]?.includes('/pause') === true && JSON.stringify(before) === JSON.stringify(last);
    });
    const { code, report } = await pushed(scene, ['push', scene.b, ...ends(scene.proxies), ...OPTIONS]);
    expect(code).toBe(1);
    expect(report).toMatchObject({
      outcome: 'failed',
      pauseMs: null,
      error: {
        code: 'WC_UPDATE_BUSY',
        engine: scene.proxies[0]?.url,
        message: expect.stringContaining(`by process ${pushing.pid}`),
      },
    });
    expect(await Promise.all(scene.engines.map(postsTo))).toEqual(before);
    pushing.signal('SIGKILL');
    await pushing.ended;
  });
});
