import type { Socket } from 'node:net';
import { resolve } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import type { EngineTarget } from '../../src/engines/http.js';
import {
  initBroadcaster,
  loadLoraAdapter,
  pause,
  resume,
  updateWeights,
} from '../../src/operations/index.js';
import { deferred } from '../../src/testing/deferred.js';
import { errorOf, expectCode } from '../engines/client.js';
import { adminOf } from '../engines/dynamo/workers.js';
import { withServer } from '../engines/server.js';
import { type Answers, type FakeEngine, fakeAdmin, withFakes } from './fake-engine.js';

const fails = () => [500, { error: 'broken' }] as const;
const admin = fakeAdmin;
const urls = (engines: readonly FakeEngine[]) => engines.map(({ url }) => url);

describe('updateWeights', () => {
  it('pauses all, then tells the caller, then updates all, then resumes all', async () => {
    await withFakes([{}, {}], async (engines) => {
      let seen: readonly (readonly string[])[] = [];
      await updateWeights(urls(engines), '/broadcasts/step_3', {
        admin,
        onPaused: async () => {
          seen = engines.map(({ asked }) => [...asked]);
        },
      });
      expect(seen).toEqual([['/pause'], ['/pause']]);
      for (const { asked, bodies } of engines) {
        expect(asked).toEqual(['/pause', '/update_weights', '/resume']);
        expect(bodies.get('/update_weights')).toEqual({ weight_dir: '/broadcasts/step_3' });
      }
    });
  });

  it('leaves one that did not finish paused, and resumes the others: never as prime-rl does, which resumes all', async () => {
    const broken: Answers = { '/update_weights': fails };
    await withFakes([{}, broken], async (engines) => {
      const [whole, half] = engines as [FakeEngine, FakeEngine];
      const error = await errorOf(updateWeights(urls(engines), '/step_3', { admin }));
      expect(error).toMatchObject({
        code: 'WC_UPDATE_QUARANTINED',
        engine: half.url,
        details: { resumed: [whole.url], paused: [half.url], unresumed: [] },
      });
      expect(whole.asked.at(-1)).toBe('/resume');
      expect(half.asked).toEqual(['/pause', '/update_weights']);
    });
  });

  it('resumes all untouched when one can not be paused: prime-rl leaves them paused', async () => {
    await withFakes([{}, { '/pause': fails }], async (engines) => {
      const error = await errorOf(updateWeights(urls(engines), '/step_3', { admin }));
      expect(error).toMatchObject({ code: 'WC_ENGINE_HTTP', engine: engines[1]?.url });
      for (const { asked } of engines) expect(asked).toEqual(['/pause', '/resume']);
    });
  });

  it('resumes all untouched when the caller has second thoughts', async () => {
    await withFakes([{}, {}], async (engines) => {
      const refused = updateWeights(urls(engines), '/step_3', {
        admin,
        onPaused: () => Promise.reject(new Error('rather not')),
      });
      await expectCode(refused, 'WC_UPDATE_ABORTED');
      for (const { asked } of engines) expect(asked).toEqual(['/pause', '/resume']);
    });
  });

  it('resumes all untouched when it is interrupted before the caller was told that all are paused', async () => {
    const stop = new AbortController();
    const stops = () => {
      stop.abort();
      return [200, { status: 'paused' }] as const;
    };
    await withFakes([{ '/pause': stops }], async ([engine]) => {
      const told = vi.fn(async () => undefined);
      const refused = updateWeights([engine?.url ?? ''], '/step_3', {
        admin,
        signal: stop.signal,
        onPaused: told,
      });
      await expectCode(refused, 'WC_UPDATE_ABORTED');
      expect(told).not.toHaveBeenCalled();
      expect(engine?.asked).toEqual(['/pause', '/resume']);
    });
  });

  // The trainer sends once onPaused has answered it: engines that are not asked to receive then would leave it to send to nobody.
  it.each(['once all are paused', 'while they update'])('is not interrupted %s', async (when) => {
    const stop = new AbortController();
    const stops = () => {
      stop.abort();
      return [200, { status: 'ok' }] as const;
    };
    await withFakes(
      [when === 'while they update' ? { '/update_weights': stops } : {}, {}],
      async (engines) => {
        await updateWeights(urls(engines), '/step_3', {
          admin,
          signal: stop.signal,
          onPaused: async () => {
            if (when === 'once all are paused') stop.abort();
          },
        });
        expect(stop.signal.aborted).toBe(true);
        for (const { asked } of engines) expect(asked).toEqual(['/pause', '/update_weights', '/resume']);
      },
    );
  });

  it('names a directory to engines by its whole path: a relative one they take for a repository', async () => {
    await withFakes([{}], async ([engine]) => {
      await updateWeights([engine?.url ?? ''], 'broadcasts/step_3', { admin });
      await loadLoraAdapter([engine?.url ?? ''], 'a', 'broadcasts/step_3', { admin });
      const path = resolve('broadcasts/step_3');
      expect(engine?.bodies.get('/update_weights')).toEqual({ weight_dir: path });
      expect(engine?.bodies.get('/load_lora_adapter')).toMatchObject({ lora_path: path });
    });
  });

  describe('on engines that record the tag of an update', () => {
    const says = (version: unknown) => () => [200, { status: 'ok', version }] as const;
    const tag = '/engine/get_weight_version';
    const dynamo = { admin: () => adminOf('python') };

    it('resumes one that says it, and leaves one that says another paused', async () => {
      await withFakes([{ [tag]: says('step_3') }, { [tag]: says('step_2') }], async (engines) => {
        const [whole, other] = engines as [FakeEngine, FakeEngine];
        const error = await errorOf(updateWeights(urls(engines), '/run/step_3', dynamo));
        expect(error).toMatchObject({
          code: 'WC_UPDATE_QUARANTINED',
          cause: { code: 'WC_VERIFY_MISMATCH', engine: other.url },
          details: { resumed: [whole.url], paused: [other.url] },
        });
        expect(whole.asked.at(-1)).toBe('/engine/resume_generation');
        expect(other.asked.at(-1)).toBe(tag);
      });
    });

    it('asks for the tag that was given, and takes one that can not say it for whole', async () => {
      const lines: string[] = [];
      await withFakes([{ [tag]: says('17') }, { [tag]: () => [404, {}] }], async (engines) => {
        await updateWeights(urls(engines), '/run/step_3', {
          ...dynamo,
          weightVersion: '17',
          onLog: (line) => lines.push(line),
        });
        expect(lines).toEqual([expect.stringContaining(`${engines[1]?.url}: its weight version`)]);
        for (const { asked } of engines) expect(asked.at(-1)).toBe('/engine/resume_generation');
      });
    });
  });

  it('names those that are whole and could not be resumed', async () => {
    await withFakes([{}, { '/resume': fails }], async (engines) => {
      const error = await errorOf(updateWeights(urls(engines), '/step_3', { admin }));
      expect(error.details).toEqual({
        resumed: [engines[0]?.url],
        paused: [],
        unresumed: [engines[1]?.url],
      });
    });
  });

  it('loads an adapter without a pause', async () => {
    await withFakes([{}], async ([engine]) => {
      await updateWeights([engine?.url ?? ''], '/step_3', { admin, loraName: 'policy' });
      expect(engine?.asked).toEqual(['/load_lora_adapter']);
      expect(engine?.bodies.get('/load_lora_adapter')).toEqual({ lora_name: 'policy', lora_path: '/step_3' });
    });
  });

  it('asks nobody for a directory that an engine loads from none', async () => {
    await withFakes([{}], async ([engine]) => {
      await expectCode(
        updateWeights([engine?.url ?? ''], '/step_3', { admin, from: 'disk' }),
        'WC_CONFIG_INVALID',
      );
      expect(engine?.asked).toEqual([]);
    });
  });
});

describe('pause, resume and loadLoraAdapter', () => {
  it.each([
    ['/pause', (engines: string[]) => pause(engines, { admin })],
    ['/resume', (engines: string[]) => resume(engines, { admin })],
    ['/load_lora_adapter', (engines: string[]) => loadLoraAdapter(engines, 'a', '/a', { admin })],
  ])('%s goes to all, and says who did and who did not', async (path, operation) => {
    await withFakes([{}, { [path]: fails }], async (engines) => {
      const error = await errorOf(operation(urls(engines)));
      expect(error.details).toMatchObject({
        status: 500,
        done: [engines[0]?.url],
        failed: [engines[1]?.url],
      });
      for (const { asked } of engines) expect(asked).toEqual([path]);
    });
  });
});

describe('initBroadcaster', () => {
  const group = { admin, host: '10.0.0.1', port: 29501 };

  it('seats the workers of each engine after those of the one before', async () => {
    await withFakes([{}, {}], async (engines) => {
      const found = await initBroadcaster(urls(engines), { ...group, inferenceWorldSize: 6 });
      expect(found).toEqual({ joined: urls(engines), skipped: [] });
      const seats = engines.map(({ bodies }) => bodies.get('/init_broadcaster'));
      expect(seats).toMatchObject([
        { rankOffset: 1, worldSize: 7, fleet: [3, 3], masterAddress: '10.0.0.1', masterPort: 29501 },
        { rankOffset: 4, worldSize: 7, fleet: [3, 3], timeoutMs: 1_200_000 },
      ]);
    });
  });

  it.each([1, 2])('skips all, with a word, where none of %i has the route', async (count) => {
    const lines: string[] = [];
    const missing: Answers = { '/init_broadcaster': () => [404, {}] };
    await withFakes([missing, missing].slice(0, count), async (engines) => {
      const found = await initBroadcaster(urls(engines), { ...group, onLog: (line) => lines.push(line) });
      expect(found).toEqual({ joined: [], skipped: urls(engines) });
      expect(lines).toEqual(urls(engines).map((url) => `${url} has no route to join a group by: skipped`));
    });
  });

  it('refuses a group that one engine joined without another', async () => {
    await withFakes([{}, { '/init_broadcaster': () => [404, {}] }], async (engines) => {
      const error = await errorOf(initBroadcaster(urls(engines), group));
      expect(error).toMatchObject({ code: 'WC_ENGINE_NOT_CONFIGURED', engine: engines[1]?.url });
    });
  });

  it.each([
    [404, 'WC_ENGINE_NOT_CONFIGURED'],
    [500, 'WC_ENGINE_HTTP'],
  ])('does not wait for those that wait for one that answered %i', async (status, code) => {
    const dropped = deferred<void>();
    const waits = (_: unknown, __: unknown, socket: Socket) => {
      socket.once('close', () => dropped.resolve());
    };
    await withServer(waits, async (waiting) => {
      await withFakes([{ '/init_broadcaster': () => [status, {}] }], async ([lacking]) => {
        const names = [waiting.url, lacking?.url ?? ''];
        const error = await errorOf(initBroadcaster(names, group));
        expect(error).toMatchObject({ code, engine: lacking?.url });
        expect(error.message).toContain(lacking?.url);
        await dropped.promise;
      });
    });
  });

  it('waits for the workers as long as they wait for one another, and 15 s for their answer', async () => {
    const asked = deferred<void>();
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      await withServer(
        () => asked.resolve(),
        async ({ url }) => {
          let ended = false;
          const refused = errorOf(
            initBroadcaster([url], { ...group, joinTimeoutMs: 400_000, timeoutMs: 1_000 }),
          ).finally(() => {
            ended = true;
          });
          await asked.promise;
          await vi.advanceTimersByTimeAsync(414_000);
          expect(ended).toBe(false);
          await vi.advanceTimersByTimeAsync(1_000);
          expect(await refused).toMatchObject({ code: 'WC_ENGINE_TIMEOUT' });
        },
      );
    } finally {
      vi.useRealTimers();
    }
  });

  it('gives workers that end themselves in a longer wait less time, unless it is said', async () => {
    const impatient = (target: EngineTarget) => {
      const own = fakeAdmin(target);
      return { ...own, capabilities: { ...own.capabilities, joinWithinMs: 25_000 } };
    };
    await withFakes([{}], async ([engine]) => {
      const asked = async (joinTimeoutMs?: number) => {
        const said = joinTimeoutMs === undefined ? {} : { joinTimeoutMs };
        await initBroadcaster([engine?.url ?? ''], { ...group, admin: impatient, ...said });
        return engine?.bodies.get('/init_broadcaster');
      };
      expect(await asked()).toMatchObject({ timeoutMs: 25_000 });
      expect(await asked(60_000)).toMatchObject({ timeoutMs: 60_000 });
    });
  });

  it.each([400, 401, 422, 500, 503])('swallows no %s, as prime-rl does', async (status) => {
    await withFakes([{ '/init_broadcaster': () => [status, {}] }], async (engines) => {
      const error = await errorOf(initBroadcaster(urls(engines), group));
      expect(error.details).toMatchObject({ status });
      expect(engines[0]?.asked).toEqual(['/init_broadcaster']);
    });
  });

  it('asks nobody where the workers can not be shared evenly', async () => {
    await withFakes([{}, {}], async (engines) => {
      await expectCode(
        initBroadcaster(urls(engines), { ...group, inferenceWorldSize: 3 }),
        'WC_CONFIG_INVALID',
      );
      for (const { asked } of engines) expect(asked).toEqual([]);
    });
  });
});
