import { expect, it } from 'vitest';
import type { Exchange } from '../../src/engines/admin.js';
import { createHttpClient } from '../../src/engines/http.js';
import { vllmAdmin } from '../../src/engines/vllm/admin.js';
import { selectDialect } from '../../src/engines/vllm-native/dialects.js';
import { type EngineLink, probeEngine } from '../../src/fleet/engine.js';
import { expectCode } from '../engines/client.js';
import { type Handler, sendJson, type TestServer, withServer } from '../engines/server.js';

const ANSWERS: Readonly<Record<string, unknown>> = {
  '/health': {},
  '/get_world_size': { world_size: 2 },
  '/is_paused': { is_paused: false },
  '/v1/models': { data: [{ id: 'model' }] },
  '/weight_info': { weight_version: '7' },
};

const answers: Handler = ({ path }, response) => {
  if (path === '/metrics') response.end('process_start_time_seconds 5.0\n');
  else sendJson(response, 200, ANSWERS[path]);
};

async function withEngine(
  handler: Handler,
  use: (engine: EngineLink, server: TestServer) => Promise<void>,
): Promise<void> {
  await withServer(handler, async (server) => {
    await using http = createHttpClient();
    const { dialect } = selectDialect('0.32.0', server.url);
    const engine: EngineLink = {
      id: server.url,
      url: server.url,
      backend: 'vllm',
      admin: vllmAdmin({ engine: server.url, version: '0.32.0', notes: [] }, dialect),
      declaredWorkers: null,
      call: (exchange, options) => http.exchange(server.target, exchange, options),
    };
    await use(engine, server);
  });
}

it('asks an engine for its facts over one connection', async () => {
  await withEngine(answers, async (engine, { received }) => {
    expect(await probeEngine(engine, {})).toEqual({
      workers: 2,
      paused: false,
      sleep: null,
      model: 'model',
      models: ['model'],
      processStart: 5,
      weightVersion: '7',
    });
    expect(received).toHaveLength(6);
    expect(new Set(received.map(({ port }) => port)).size).toBe(1);
  });
});

it('asks once where one answer says when the process was started and whether it sleeps', async () => {
  await withEngine(answers, async (engine, { received }) => {
    const metrics = engine.admin.processStart() as Exchange<number | null>;
    const life = { processStart: 7, sleep: 'asleep' } as const;
    const admin = { ...engine.admin, life: () => ({ ...metrics, read: () => life }) };
    expect(await probeEngine({ ...engine, admin }, {})).toMatchObject(life);
    expect(received.filter(({ path }) => path === '/metrics')).toHaveLength(1);
  });
});

it('does without the start of the process where the metrics hang, within the deadline of all questions', async () => {
  const hangs: Handler = (request, response, socket) => {
    if (request.path !== '/metrics') void answers(request, response, socket);
  };
  await withEngine(hangs, async (engine) => {
    const facts = await probeEngine(engine, { timeoutMs: 500 });
    expect(facts).toMatchObject({ workers: 2, processStart: null, weightVersion: '7' });
  });
});

it('gives all questions together one deadline', async () => {
  const given: number[] = [];
  await withEngine(answers, async (engine) => {
    const watched: EngineLink = {
      ...engine,
      call: (exchange, options) => {
        given.push(options?.timeoutMs ?? Number.NaN);
        return engine.call(exchange, options);
      },
    };
    await probeEngine(watched, { timeoutMs: 60_000 });
  });
  expect(given).toEqual([...given].sort((a, b) => b - a));
  expect(given[0]).toBeLessThanOrEqual(60_000);
});

it('names an engine that does not answer', async () => {
  await withEngine(
    () => {},
    async (engine) => {
      const error = await expectCode(probeEngine(engine, { timeoutMs: 100 }), 'WC_ENGINE_TIMEOUT');
      expect(error.engine).toBe(engine.id);
    },
  );
});
