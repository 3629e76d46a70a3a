import { describe, expect, it } from 'vitest';
import { checkHealth, listModels, maybeCheckHasModel } from '../../src/operations/index.js';
import { errorOf, expectCode } from '../engines/client.js';
import { type Handler, sendJson, withServer } from '../engines/server.js';
import { type Answers, fakeAdmin, withFakes } from './fake-engine.js';

const QUICK = { intervalMs: 1, logIntervalMs: 0, admin: 'vllm' };

/** Answers with each of the statuses once, with the last one for ever. */
function statuses(...list: number[]): Answers {
  let turn = 0;
  return { '/health': () => [list[Math.min(turn++, list.length - 1)] ?? 200, {}] };
}

describe('checkHealth', () => {
  it('asks again until every engine is healthy, and no longer those that are', async () => {
    await withFakes([statuses(200), statuses(503, 500, 200)], async ([ready, late]) => {
      await checkHealth([ready?.url ?? '', late?.url ?? ''], QUICK);
      expect(ready?.asked).toEqual(['/health']);
      expect(late?.asked).toEqual(['/health', '/health', '/health']);
    });
  });

  it('takes a 404 for healthy: a router has no /health', async () => {
    await withFakes([statuses(404)], async ([router]) => checkHealth([router?.url ?? ''], QUICK));
  });

  it('waits for a server that is not there yet, and ends at its deadline', async () => {
    const error = await errorOf(checkHealth(['http://127.0.0.1:9'], { ...QUICK, timeoutMs: 1_000 }));
    expect(error).toMatchObject({ code: 'WC_ENGINE_TIMEOUT', engine: 'http://127.0.0.1:9' });
    expect(error.message).toContain('ECONNREFUSED');
  });

  it('says what was wrong before the look that its deadline cut short', async () => {
    let looks = 0;
    const handler: Handler = (_, response) => {
      looks += 1;
      if (looks === 1) sendJson(response, 503, {});
    };
    await withServer(handler, async ({ url }) => {
      const error = await errorOf(checkHealth([url], { ...QUICK, timeoutMs: 1_000 }));
      expect(error).toMatchObject({ code: 'WC_ENGINE_TIMEOUT', engine: url });
      expect(error.message).toContain('503');
    });
    expect(looks).toBeGreaterThan(1);
  });

  it('tells whom it waits for, and ends at the signal', async () => {
    const stop = new AbortController();
    const lines: string[] = [];
    const onLog = (line: string) => {
      lines.push(line);
      stop.abort();
    };
    const waiting = checkHealth(['http://127.0.0.1:9'], { ...QUICK, signal: stop.signal, onLog });
    await expectCode(waiting, 'WC_UPDATE_ABORTED');
    expect(lines).toEqual([
      expect.stringMatching(/^waiting for http:\/\/127\.0\.0\.1:9 \(.*ECONNREFUSED.*\) since \d+ s$/),
    ]);
  });

  it.each([401, 403])('does not wait for an engine that answers %i: it needs a key', async (status) => {
    await withFakes([statuses(status)], async ([engine]) => {
      await expectCode(checkHealth([engine?.url ?? ''], QUICK), 'WC_ENGINE_UNAUTHORIZED');
    });
  });

  it("asks by the caller's own operations where it gives them", async () => {
    await withFakes([{ '/health': () => [204, {}] }], async ([engine]) => {
      // vLLM says 200: the generic question would have taken any 2xx.
      await expectCode(
        checkHealth([engine?.url ?? ''], { ...QUICK, admin: fakeAdmin, timeoutMs: 20 }),
        'WC_ENGINE_TIMEOUT',
      );
    });
  });
});

describe('maybeCheckHasModel', () => {
  const lists = (...ids: string[]): Answers => ({
    '/v1/models': () => [200, { data: ids.map((id) => ({ id })) }],
  });

  it('passes where every engine serves the model, and names one that does not', async () => {
    await withFakes([lists('a', 'b'), lists('b')], async (engines) => {
      const urls = engines.map(({ url }) => url);
      await maybeCheckHasModel(urls, 'b', { admin: 'vllm' });
      const error = await errorOf(maybeCheckHasModel(urls, 'a', { admin: 'vllm' }));
      expect(error).toMatchObject({ code: 'WC_CONFIG_INVALID', engine: urls[1] });
      expect(error.message).toContain('does not serve the model a: it serves b');
      await maybeCheckHasModel(urls, 'nobody has it', { admin: 'vllm', skipModelCheck: true });
    });
  });

  it('asks where the models are served', async () => {
    await withFakes([{}, lists('m')], async ([worker, frontend]) => {
      const engine = { url: worker?.url ?? '', inferenceUrl: frontend?.url ?? '' };
      const found = await listModels([engine], { admin: 'vllm' });
      expect([...found]).toEqual([[engine.url, [{ id: 'm', root: null, parent: null }]]]);
      expect(worker?.asked).toEqual([]);
    });
  });

  it('does not take an error for an empty list', async () => {
    await withFakes([{ '/v1/models': () => [500, { error: { message: 'broken' } }] }], async ([engine]) => {
      const asking = listModels([engine?.url ?? ''], { admin: 'vllm', timeoutMs: 50 });
      await expectCode(asking, 'WC_ENGINE_HTTP');
    });
  });
});
