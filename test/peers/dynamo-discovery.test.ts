/** What NVIDIA Dynamo's own frontend, runtime and worker handlers answer: the facts that the dynamo backend and the discovery rest on. */
import { afterAll, beforeAll, beforeEach, expect, onTestFailed, test } from 'vitest';
import { type Deployment, deploy, until, untilListed } from './support/dynamo/deployment.js';
import type { Frontend, RlWorker } from './support/dynamo/frontend.js';
import { etcdPlane, filePlane, type Plane } from './support/dynamo/plane.js';
import { engine } from './support/dynamo/worker.js';
import { freePort, type ProcessGroup } from './support/group.js';
import { lane } from './support/lane.js';
import { dynamoPackages, type PythonEnvironment } from './support/venv.js';

const ROUTES = [
  'abort_request',
  'destroy_weights_update_group',
  'flush_cache',
  'get_weight_version',
  'init_weights_update_group',
  'liveness_probe',
  'pause_generation',
  'resume_generation',
  'set_weight_version',
  'update_weights_from_disk',
  'update_weights_from_distributed',
  'update_weights_from_tensor',
];

const PLANES = {
  file: {
    make: filePlane,
    workers: 8,
    transport: { tcp: expect.stringMatching(/^127\.0\.0\.1:\d+\/[0-9a-f]+\/test\/backend\/rl$/) },
  },
  'etcd and NATS': {
    make: etcdPlane,
    workers: 3,
    transport: { nats_tcp: expect.stringMatching(/^test_backend\.rl-[0-9a-f]+$/) },
  },
} as const;

async function chat(frontend: Frontend, tokens: number, timeoutMs = 30_000) {
  const reply = await fetch(`${frontend.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model: 'tiny',
      messages: [{ role: 'user', content: 'w5 w6' }],
      max_tokens: tokens,
    }),
    signal: AbortSignal.timeout(timeoutMs),
  });
  const text = await reply.text();
  return { status: reply.status, text };
}

for (const [name, { make, transport, workers: count }] of Object.entries(PLANES)) {
  await lane(`dynamo 1.6.1, discovery by ${name}`, dynamoPackages, (python: PythonEnvironment) => {
    let deployment: Deployment;
    let frontend: Frontend;
    const workers: ProcessGroup[] = [];

    beforeAll(async () => {
      deployment = await deploy(python, await (make as () => Promise<Plane>)());
      frontend = await deployment.frontend();
    });
    afterAll(() => deployment?.stop());
    beforeEach(() => {
      onTestFailed(() => void process.stderr.write(deployment.logs()));
    });

    test('a frontend without workers lists none, and serves its RL route on that port alone', async () => {
      expect(await frontend.rlWorkers()).toEqual({ protocol_version: 1, namespace: 'test', workers: [] });
      expect(await frontend.models()).toEqual([]);
      expect((await fetch(`${frontend.url}/v1/rl/workers`)).status).toBe(404);
      expect(await chat(frontend, 1)).toEqual({ status: 404, text: '' });
    });

    test(`${count} workers are listed in the order of their ids, which no double can hold`, async () => {
      for (let index = 0; index < count; index++) {
        workers.push(await deployment.worker({ workers: index === 0 ? 2 : 1 }));
      }
      const listed = await untilListed(frontend, count);
      const ids = listed.map((worker) => BigInt(worker.instance_id));
      expect(ids).toEqual([...ids].sort((a, b) => (a < b ? -1 : 1)));
      expect(new Set(ids).size).toBe(count);
      expect(ids.some((id) => id > BigInt(Number.MAX_SAFE_INTEGER))).toBe(true);
      for (const worker of listed) {
        expect(worker).toEqual({
          namespace: 'test',
          component: 'backend',
          endpoint: 'rl',
          instance_id: expect.any(String),
          transport,
          request_plane_url: 'dyn://test.backend.rl',
          system_url: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/),
          model: 'tiny',
          routes: ROUTES,
          world_size: expect.any(Number),
        });
      }
      const sizes = listed.map((worker) => worker.world_size!);
      expect(sizes.sort()).toEqual([...Array.from({ length: count - 1 }, () => 1), 2]);
      expect(new Set(listed.map((worker) => worker.system_url)).size).toBe(count);
      expect(await frontend.models()).toEqual(['tiny']);
    });

    test('chat is served through the frontend', async () => {
      const { status, text } = await chat(frontend, 3);
      expect(status, text).toBe(200);
      expect(JSON.parse(text)).toMatchObject({
        model: 'tiny',
        choices: [{ finish_reason: 'length' }],
        usage: { completion_tokens: 3 },
      });
    });

    test('a paused worker is healthy, listed and routed to: its share of the requests waits', async () => {
      const listed = await untilListed(frontend, count);
      const url = listed[0]!.system_url!;
      expect((await engine(url, 'pause_generation', { mode: 'wait' })).body).toMatchObject({ status: 'ok' });
      expect((await fetch(`${url}/health`)).status).toBe(200);
      await untilListed(frontend, count);
      let answered = 0;
      const requests = Array.from({ length: 2 * count }, () =>
        chat(frontend, 1).then(({ status }) => {
          answered++;
          return status;
        }),
      );
      await until(
        async () => answered,
        (answers) => answers === 2 * (count - 1),
      );
      expect((await engine(url, 'resume_generation')).body).toMatchObject({ status: 'ok' });
      expect(new Set(await Promise.all(requests))).toEqual(new Set([200]));
    });

    if (name === 'file') {
      test('a namespace is exact, and a prefix of one is a whole word of it', async () => {
        const other = await deployment.worker({ namespace: 'test-x' });
        const [prefix, half, elsewhere] = await Promise.all([
          deployment.frontend({ env: { DYN_NAMESPACE_PREFIX: 'test' } }),
          deployment.frontend({ env: { DYN_NAMESPACE_PREFIX: 'tes' } }),
          deployment.frontend({ namespace: 'elsewhere' }),
        ]);
        const found = await untilListed(prefix, count + 1);
        expect(new Set(found.map((worker) => worker.namespace))).toEqual(new Set(['test', 'test-x']));
        expect((await half.rlWorkers()).workers).toEqual([]);
        expect((await elsewhere.rlWorkers()).workers).toEqual([]);
        expect((await frontend.rlWorkers()).workers).toHaveLength(count);
        await Promise.all([prefix, half, elsewhere].map(({ group }) => group.stop()));
        await other.stop();
      });

      test('a worker whose system port is taken runs on and is listed without an address', async () => {
        const port = String(await freePort('below 32768'));
        const pair = [
          await deployment.worker({ systemPort: port }),
          await deployment.worker({ systemPort: port }),
        ];
        const listed = await untilListed(frontend, count + 2);
        expect(listed.filter((worker) => worker.system_url === `http://127.0.0.1:${port}`)).toHaveLength(1);
        const unreachable = listed.filter((worker) => worker.system_url === undefined);
        expect(unreachable).toMatchObject([{ routes: ROUTES, world_size: 1, model: 'tiny' }]);
        expect(unreachable[0]).not.toHaveProperty('error');
        expect(pair.map((worker) => worker.exitCode())).toEqual([null, null]);
        await Promise.all(pair.map((worker) => worker.stop()));
        await untilListed(frontend, count);
      });

      test('a stopped worker costs the discovery its deadline, and has an error instead of routes', async () => {
        const ids = (await frontend.rlWorkers()).workers.map((worker) => worker.instance_id);
        workers[1]!.signal('SIGSTOP');
        const began = performance.now();
        const { workers: seen } = await frontend.rlWorkers();
        const took = performance.now() - began;
        workers[1]!.signal('SIGCONT');
        expect(took).toBeGreaterThan(3_900);
        expectFaulty(seen, /^worker discovery timed out after 4s$/);
        expect(seen.map((worker) => worker.instance_id)).toEqual(ids);
        await untilListed(frontend, count);
      });
    }

    test('a killed worker has an error instead of an address, and is gone when its lease is', async () => {
      workers[2]!.signal('SIGKILL');
      const seen = await until(
        () => frontend.rlWorkers(),
        ({ workers: listed }) => listed.some((worker) => worker.error !== undefined),
      );
      expectFaulty(seen.workers, /^Unavailable: |timed out after 4s$/);
      await untilListed(frontend, count - 1);
    });

    test('a killed frontend that starts again on its ports finds the same workers', async () => {
      const before = (await frontend.rlWorkers()).workers.map((worker) => worker.instance_id);
      frontend.group.signal('SIGKILL');
      await frontend.group.stop();
      frontend = await deployment.frontend({ ports: frontend.ports });
      const after = await untilListed(frontend, count - 1);
      expect(after.map((worker) => worker.instance_id)).toEqual(before);
      const answer = await until(
        () => chat(frontend, 1),
        ({ status }) => status === 200,
      );
      expect(answer.status).toBe(200);
    });
  });
}

/** One of them has an error, and nothing that one could post to. */
function expectFaulty(listed: readonly RlWorker[], error: RegExp): void {
  const faulty = listed.filter((worker) => worker.error !== undefined);
  expect(faulty).toMatchObject([{ routes: [], error: expect.stringMatching(error) }]);
  expect(faulty[0]).not.toHaveProperty('system_url');
  expect(faulty[0]).not.toHaveProperty('world_size');
}
