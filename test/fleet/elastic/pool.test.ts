import { expect, test } from 'vitest';
import type { EngineTarget } from '../../../src/engines/http.js';
import { ElasticPool } from '../../../src/fleet/elastic/pool.js';
import type { Member } from '../../../src/fleet/membership.js';
import { target } from '../../engines/server.js';

/** A pool of engines that answer and are well, after one look. */
async function lookedAt(found: readonly Member[], fixed: readonly EngineTarget[] = []) {
  const pool = new ElasticPool({
    sources: [{ source: { name: 'test', poll: async () => ({ members: found, unusable: [] }) } }],
    fixed,
    probe: async () => ({ processStart: 1, weightVersion: null, paused: false, adapters: null }),
    sync: null,
  });
  await pool.look();
  return pool;
}

const worker = (url: string, changes: Partial<EngineTarget> = {}): Member => ({
  target: target(url, { backend: 'dynamo', ...changes }),
  identity: `ns/c/${url}`,
});

test('requests go to the frontend of Dynamo workers, and never to their system ports', async () => {
  await using silent = await lookedAt([worker('http://10.0.0.1:9090')]);
  expect(silent.engines.map(({ state }) => state)).toEqual(['ready']);
  expect(silent.readyUrls).toEqual([]);
  await using known = await lookedAt([worker('http://10.0.0.1:9090', { inferenceUrl: 'http://fe:8000' })]);
  expect(known.readyUrls).toEqual(['http://fe:8000']);
});

test('an engine that is listed and found is one, as it is listed, with the identity and the routes that were found', async () => {
  const seen: EngineTarget[] = [];
  const listed = target('http://10.0.0.1:9090', { backend: 'dynamo', workers: 4 });
  const found = worker('http://10.0.0.1:9090', { workers: 2, routes: ['pause'], parameters: { model: 'm' } });
  await using pool = new ElasticPool({
    sources: [{ source: { name: 'test', poll: async () => ({ members: [found], unusable: [] }) } }],
    fixed: [listed],
    probe: async (engine) => {
      seen.push(engine);
      return { processStart: 1, weightVersion: null, paused: false, adapters: null };
    },
    sync: null,
  });
  await pool.look();
  expect(pool.engines).toMatchObject([{ identity: found.identity, workers: 4 }]);
  expect(seen).toMatchObject([{ workers: 4, routes: ['pause'], parameters: { model: 'm' } }]);
});

test('an engine that is found under two addresses is shown once, and said', async () => {
  await using pool = await lookedAt([worker('http://localhost:9090'), worker('http://127.0.0.1:9090')]);
  expect(pool.engines.map(({ url }) => url)).toEqual(['http://localhost:9090']);
  expect(pool.troubles).toEqual(['http://127.0.0.1:9090 is found twice']);
});

test('who is interrupted while it waits for the fleet waits no longer, and a newcomer that is being loaded goes on', async () => {
  const interrupt = new AbortController();
  let calledOff = false;
  await using pool = new ElasticPool({
    sources: [
      {
        source: {
          name: 'test',
          poll: async () => ({ members: [worker('http://10.0.0.1:9090')], unusable: [] }),
        },
      },
    ],
    probe: async () => ({ processStart: 1, weightVersion: null, paused: false, adapters: null }),
    sync: (_, __, signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          calledOff = true;
          reject(signal.reason);
        });
      }),
  });
  pool.conclude({ weights: { directory: '/step_1', version: '1', identity: null }, adapters: [] }, []);
  await pool.look();
  expect(pool.engines.map(({ state }) => state)).toEqual(['syncing']);
  const held = pool.hold(interrupt.signal);
  interrupt.abort();
  (await held)();
  expect(calledOff).toBe(false);
  expect(pool.engines.map(({ state }) => state)).toEqual(['syncing']);
});
