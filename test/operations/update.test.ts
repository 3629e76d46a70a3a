import { describe, expect, it } from 'vitest';
import {
  initBroadcaster,
  loadLoraAdapter,
  pause,
  resume,
  updateWeights,
} from '../../src/operations/index.js';
import { errorOf, expectCode } from '../engines/client.js';
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

  it('resumes all untouched when the caller has second thoughts, and when it is interrupted', async () => {
    await withFakes([{}, {}], async (engines) => {
      const stop = new AbortController();
      const refused = updateWeights(urls(engines), '/step_3', {
        admin,
        signal: stop.signal,
        onPaused: async () => stop.abort(),
      });
      await expectCode(refused, 'WC_UPDATE_ABORTED');
      for (const { asked } of engines) expect(asked).toEqual(['/pause', '/resume']);
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

  it('skips one without the route, with a word', async () => {
    const lines: string[] = [];
    await withFakes([{}, { '/init_broadcaster': () => [404, {}] }], async (engines) => {
      const found = await initBroadcaster(urls(engines), { ...group, onLog: (line) => lines.push(line) });
      expect(found).toEqual({ joined: [engines[0]?.url], skipped: [engines[1]?.url] });
      expect(lines).toEqual([`${engines[1]?.url} has no route to join a group by: skipped`]);
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
