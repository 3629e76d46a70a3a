import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type ReferenceEngine,
  type ReferenceEngineOptions,
  simulateFleet,
  startReferenceEngine,
  writeTinyModel,
} from '../../src/testing/index.js';
import { isRunning } from '../../src/testing/processes.js';
import { info, post, Rank0, readTensors, type SourceTensor, sha256 } from './rank0.js';

let directory: string;
let tensors: readonly SourceTensor[];
const model = (name: string): string => join(directory, name);

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'weightcast-reference-'));
  await writeTinyModel(model('old'), { seed: 1 });
  await writeTinyModel(model('new'), { seed: 2, shards: 2 });
  tensors = await readTensors(model('new'));
});
afterAll(() => rm(directory, { recursive: true }));

async function withEngine(
  options: Partial<ReferenceEngineOptions>,
  use: (engine: ReferenceEngine) => Promise<void>,
): Promise<void> {
  await using engine = await startReferenceEngine({ model: model('old'), ...options });
  await use(engine);
}

const LAYER = 'model.layers.1';
const bytesOf = (source: readonly SourceTensor[], name: string): Uint8Array => {
  const found = source.find((tensor) => tensor.name === name);
  if (found === undefined) {
    throw new Error(`no tensor ${name}`);
  }
  return found.bytes;
};
const rowSlice = (bytes: Uint8Array, rank: number, size: number): Uint8Array =>
  bytes.subarray((rank * bytes.length) / size, ((rank + 1) * bytes.length) / size);

/** A few parameters of every kind, derived here by hand from the checkpoint. */
function expected(source: readonly SourceTensor[], rank: number, size: number): Record<string, string> {
  const rows = (name: string): Uint8Array => rowSlice(bytesOf(source, `${LAYER}.${name}.weight`), rank, size);
  const down = bytesOf(source, `${LAYER}.mlp.down_proj.weight`);
  const columns = Array.from({ length: 64 }, (_, row) =>
    rowSlice(down.subarray(row * 256, (row + 1) * 256), rank, size),
  );
  return {
    'model.embed_tokens.weight': sha256(rowSlice(bytesOf(source, 'model.embed_tokens.weight'), rank, size)),
    'model.norm.weight': sha256(bytesOf(source, 'model.norm.weight')),
    [`${LAYER}.self_attn.qkv_proj.weight`]: sha256(
      rows('self_attn.q_proj'),
      rows('self_attn.k_proj'),
      rows('self_attn.v_proj'),
    ),
    [`${LAYER}.mlp.gate_up_proj.weight`]: sha256(rows('mlp.gate_proj'), rows('mlp.up_proj')),
    [`${LAYER}.mlp.down_proj.weight`]: sha256(...columns),
  };
}

async function expectWeights(engine: ReferenceEngine, source: readonly SourceTensor[]): Promise<void> {
  const digests = await engine.digests();
  expect(digests).toHaveLength(engine.workers.length);
  for (const [rank, held] of digests.entries()) {
    expect(Object.fromEntries(held)).toMatchObject(expected(source, rank, engine.workers.length));
  }
}

const complete = (engine: ReferenceEngine): ReturnType<typeof post> =>
  post(engine, '/v1/completions', { prompt: [1, 2, 3], max_tokens: 1, prompt_logprobs: 1 });

async function scores(engine: ReferenceEngine): Promise<unknown> {
  const { body } = await complete(engine);
  return (body as { choices: { prompt_logprobs: unknown }[] }).choices[0]?.prompt_logprobs;
}

describe('a reference engine that is updated by NCCL', () => {
  it.each([
    { version: '0.32.0', workers: 2, inline: false },
    { version: '0.33.0', workers: 1, inline: true },
  ] as const)('holds the bytes that were sent, packed: $version with $workers workers', (options) =>
    withEngine(options, async (engine) => {
      await expectWeights(engine, await readTensors(model('old')));
      const before = await scores(engine);
      const extra = { packed: true, packed_buffer_size_bytes: 40_000 };
      const rank0 = await Rank0.join([engine], { inline: options.inline, extra });
      await post(engine, '/pause?mode=keep&clear_cache=true');
      expect((await post(engine, '/start_weight_update')).status).toBe(200);
      const update = post(engine, '/update_weights', { update_info: info(tensors) });
      let chunk: Uint8Array[] = [];
      let total = 0;
      for (const { bytes } of tensors) {
        chunk.push(bytes);
        total += bytes.length;
        if (total > 40_000) {
          await rank0.broadcast(...chunk);
          chunk = [];
          total = 0;
        }
      }
      if (chunk.length > 0) {
        await rank0.broadcast(...chunk);
      }
      expect(await update).toEqual({ status: 200, body: { message: 'Weights updated' } });
      const finish = await post(engine, '/finish_weight_update', { weight_version: 'step-2' });
      expect(finish.status).toBe(200);
      await post(engine, '/resume');
      await expectWeights(engine, tensors);
      expect(await scores(engine)).not.toEqual(before);
      expect(await (await fetch(`${engine.url}/weight_info`)).json()).toEqual({ weight_version: 'step-2' });
      await rank0.abort();
    }),
  );

  it('takes one tensor a broadcast, and one group after another', () =>
    withEngine({ version: '0.24.0', workers: 2 }, async (engine) => {
      for (const source of [tensors, await readTensors(model('old'))]) {
        const rank0 = await Rank0.join([engine]);
        await post(engine, '/start_weight_update');
        const update = post(engine, '/update_weights', { update_info: info(source) });
        for (const { bytes } of source) {
          await rank0.broadcast(bytes);
        }
        expect((await update).status).toBe(200);
        await post(engine, '/finish_weight_update');
        await expectWeights(engine, source);
        await rank0.abort();
      }
      expect((await complete(engine)).status).toBe(200);
    }));

  it('scores like an engine with another number of workers', async () => {
    await using fleet = await simulateFleet({ engines: 1, workers: 1, model: model('new') });
    await using other = await simulateFleet({ engines: 1, workers: 4, model: model('new') });
    expect(await scores(fleet.engines[0]!)).toEqual(await scores(other.engines[0]!));
  });

  it('fails when a tensor cannot be viewed where it lies, and is healed by a good directory', () =>
    withEngine({ version: '0.32.0', workers: 2 }, async (engine) => {
      const rank0 = await Rank0.join([engine], { extra: { packed: true } });
      await post(engine, '/pause?mode=keep&clear_cache=true');
      await post(engine, '/start_weight_update');
      const odd: SourceTensor[] = [
        { name: 'x', dtypeName: 'uint8', shape: [3], bytes: Uint8Array.of(1, 2, 3) },
        { name: 'model.norm.weight', dtypeName: 'bfloat16', shape: [64], bytes: new Uint8Array(128) },
      ];
      const update = post(engine, '/update_weights', { update_info: info(odd) });
      await rank0.broadcast(...odd.map((tensor) => tensor.bytes));
      const refused = await update;
      expect(refused.status).toBe(500);
      expect(JSON.stringify(refused.body)).toContain('must be divisible by 2 to view Byte as BFloat16');
      expect((await post(engine, '/finish_weight_update')).status).toBe(500);
      expect((await fetch(`${engine.url}/health`)).status).toBe(200);
      const args = { method: 'reload_weights', kwargs: { weights_path: model('new') } };
      expect(await post(engine, '/collective_rpc', args)).toEqual({
        status: 200,
        body: { results: [null, null] },
      });
      await post(engine, '/resume');
      expect((await complete(engine)).status).toBe(200);
      await expectWeights(engine, tensors);
      await rank0.abort();
    }));

  it('notices a sender that aborts in the middle, and dies at the next request', () =>
    withEngine({ version: '0.32.0', workers: 2 }, async (engine) => {
      const rank0 = await Rank0.join([engine]);
      await post(engine, '/start_weight_update');
      const update = post(engine, '/update_weights', { update_info: info(tensors) });
      await rank0.broadcast(tensors[0]!.bytes);
      await rank0.abort();
      const failed = await update;
      expect(failed.status).toBe(500);
      expect(JSON.stringify(failed.body)).toContain('NCCL error');
      const killing = await complete(engine);
      expect(killing.status).toBe(500);
      const answered = Date.now();
      expect(await engine.exited).toEqual({ code: 1, signal: null });
      expect(Date.now() - answered).toBeLessThan(1000);
      await expect(fetch(`${engine.url}/health`)).rejects.toThrow();
    }));

  it('answers health and version, and holds pause, while it receives', () =>
    withEngine({ version: '0.32.0' }, async (engine) => {
      const rank0 = await Rank0.join([engine]);
      await post(engine, '/start_weight_update');
      const norm = tensors.filter((tensor) => tensor.name === 'model.norm.weight');
      const update = post(engine, '/update_weights', { update_info: info(norm) });
      let paused = false;
      const pause = post(engine, '/pause?mode=keep').then(() => {
        paused = true;
      });
      for (const path of [
        '/health',
        '/version',
        '/v1/models',
        '/get_world_size',
        '/metrics',
        '/openapi.json',
      ]) {
        expect((await fetch(`${engine.url}${path}`)).status).toBe(200);
      }
      expect(paused).toBe(false);
      await rank0.broadcast(norm[0]!.bytes);
      expect((await update).status).toBe(200);
      await pause;
      const record = await engine.exchanges();
      expect(record.find((exchange) => exchange.path === '/update_weights')?.requestBody).toContain(
        'model.norm',
      );
      await rank0.abort();
    }));
});

describe('faults', () => {
  it('corrupt a parameter, so that the digest differs', () =>
    withEngine({ faults: { corruptParameter: 'model.norm.weight' } }, async (engine) => {
      const args = { method: 'reload_weights', kwargs: { weights_path: model('new') } };
      await post(engine, '/collective_rpc', args);
      const [held] = await engine.digests();
      expect(held?.get('model.norm.weight')).not.toBe(sha256(bytesOf(tensors, 'model.norm.weight')));
      await engine.setFaults({});
      await post(engine, '/collective_rpc', args);
      await expectWeights(engine, tensors);
    }));

  it('raise in a receive, on one worker', () =>
    withEngine({ workers: 2 }, async (engine) => {
      await engine.setFaults({ receive: { afterBroadcasts: 1, action: 'raise', worker: 1 } });
      const rank0 = await Rank0.join([engine]);
      await post(engine, '/start_weight_update');
      const update = post(engine, '/update_weights', { update_info: info(tensors.slice(0, 2)) });
      await rank0.broadcast(tensors[0]!.bytes);
      expect(JSON.stringify((await update).body)).toContain('injected fault after 1 broadcasts');
      await rank0.abort();
    }));

  it('end a worker, and the engine with it', () =>
    withEngine({ workers: 2 }, async (engine) => {
      await engine.setFaults({ receive: { afterBroadcasts: 0, action: 'exit', worker: 0 } });
      const rank0 = await Rank0.join([engine]);
      await post(engine, '/start_weight_update');
      const update = post(engine, '/update_weights', { update_info: info(tensors) }).catch(() => null);
      expect(await engine.exited).toMatchObject({ code: 1 });
      expect((await update)?.status ?? 500).toBe(500);
      await rank0.abort();
    }));

  it('end a worker after the last broadcast has arrived', () =>
    withEngine({}, async (engine) => {
      await engine.setFaults({ receive: { afterBroadcasts: 1000, action: 'exit' } });
      const rank0 = await Rank0.join([engine]);
      await post(engine, '/start_weight_update');
      const [first] = tensors;
      const update = post(engine, '/update_weights', { update_info: info([first!]) }).catch(() => null);
      await rank0.broadcast(first!.bytes);
      expect(await engine.exited).toMatchObject({ code: 1 });
      expect((await update)?.status ?? 500).toBe(500);
      await rank0.abort();
    }));
});

describe('an engine behind its HTTP server', () => {
  it('says that it is stuck in a join, and is put back to its start from there', () =>
    withEngine({ faults: { join: { action: 'stall' } } }, async (engine) => {
      const join = { master_address: '127.0.0.1', master_port: 9, rank_offset: 1, world_size: 2 };
      const init = post(engine, '/init_weight_transfer_engine', { init_info: join });
      await expect.poll(async () => (await engine.state()).pending, { timeout: 10_000 }).toBe(1);
      expect(await engine.state()).toMatchObject({ paused: null, broken: false, joined: false, dead: false });
      await engine.reset();
      expect((await init).status).toBe(500);
      expect(await engine.state()).toMatchObject({ pending: 0 });
    }));

  it('forgets weights, pause, session and record when it is put back to its start', () =>
    withEngine({ workers: 2 }, async (engine) => {
      const before = await engine.digests();
      const load = { method: 'reload_weights', kwargs: { weights_path: model('new') } };
      await post(engine, '/collective_rpc', load);
      await post(engine, '/pause?mode=keep');
      await post(engine, '/start_weight_update');
      await post(engine, '/update_weight_version', { new_version: '7' });
      expect(await engine.digests()).not.toEqual(before);
      const broken = { paused: 'keep', updating: true, broken: true, weightVersion: '7' };
      expect(await engine.state()).toMatchObject(broken);
      await engine.reset();
      const intact = { paused: null, updating: false, broken: false, weightVersion: 'default' };
      expect(await engine.state()).toMatchObject(intact);
      expect(await engine.digests()).toEqual(before);
      expect(await engine.exchanges()).toEqual([]);
    }));

  it('gives its workers an environment of their own: one that runs another NCCL is refused', () =>
    withEngine({ environment: { WEIGHTCAST_EMULATOR_NCCL_VERSION: '22809' } }, async (engine) => {
      await expect(Rank0.join([engine])).rejects.toThrow();
    }));
});

async function untilGone(pids: readonly number[]): Promise<void> {
  const deadline = Date.now() + 5000;
  while (pids.some(isRunning)) {
    expect(Date.now()).toBeLessThan(deadline);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

describe('starting one', () => {
  it('without a model names what to pass', async () => {
    const start = startReferenceEngine as (options?: object) => Promise<unknown>;
    await expect(start()).rejects.toMatchObject({
      code: 'WC_CONFIG_INVALID',
      remedy: expect.stringContaining('writeTinyModel') as string,
    });
    await expect(start({})).rejects.toThrow('model: name the directory');
  });
});

describe('the processes of an engine', () => {
  it('end when it is closed, twice if need be', async () => {
    const engine = await startReferenceEngine({ model: model('old'), workers: 2 });
    expect([engine.pid, ...engine.workers].every(isRunning)).toBe(true);
    await engine.close();
    await engine.close();
    expect([engine.pid, ...engine.workers].some(isRunning)).toBe(false);
  });

  it('end when it is killed', async () => {
    const engine = await startReferenceEngine({ model: model('old'), workers: 2 });
    await engine.kill();
    expect(await engine.exited).toEqual({ code: null, signal: 'SIGKILL' });
    expect(engine.workers.some(isRunning)).toBe(false);
  });

  it('end in the middle of a receive', async () => {
    const engine = await startReferenceEngine({ model: model('old'), workers: 2 });
    const rank0 = await Rank0.join([engine]);
    await post(engine, '/start_weight_update');
    const update = post(engine, '/update_weights', { update_info: info(tensors) }).catch(() => null);
    await rank0.broadcast(tensors[0]!.bytes);
    await engine.close();
    expect(engine.workers.some(isRunning)).toBe(false);
    await update;
    await rank0.abort();
  });

  it('end when the process that started them is killed', async () => {
    const dist = new URL('../../dist/testing/index.js', import.meta.url).href;
    const script = `
      const { startReferenceEngine } = await import(${JSON.stringify(dist)});
      const engine = await startReferenceEngine({ model: ${JSON.stringify(model('old'))}, workers: 2 });
      console.log(JSON.stringify([engine.pid, ...engine.workers]));
    `;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
      cwd: fileURLToPath(new URL('../..', import.meta.url)),
    });
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    const pids = JSON.parse(line.toString()) as number[];
    expect(pids).toHaveLength(3);
    child.kill('SIGKILL');
    await untilGone(pids);
  });

  it('do not start for a model that is not there, and the error says why', async () => {
    await expect(startReferenceEngine({ model: '/nonexistent/dir' })).rejects.toMatchObject({
      code: 'WC_REFERENCE_ENGINE',
      message: expect.stringContaining('/nonexistent/dir') as string,
    });
  });

  it('do not start for a version that nobody recorded', async () => {
    const version = '0.15.0' as '0.16.0';
    await expect(startReferenceEngine({ model: model('old'), version })).rejects.toMatchObject({
      code: 'WC_CONFIG_INVALID',
    });
  });
});

it('simulates a fleet with a model of its own, and leaves nothing behind', async () => {
  const fleet = await simulateFleet({ engines: 2, workers: 2, servedModelName: 'tiny' });
  expect(fleet.addresses).toHaveLength(2);
  const models = (await (await fetch(`${fleet.addresses[1]}/v1/models`)).json()) as { data: unknown[] };
  expect(models.data).toMatchObject([{ id: 'tiny', root: fleet.model }]);
  expect(await scores(fleet.engines[0]!)).toEqual(await scores(fleet.engines[1]!));
  const pids = fleet.engines.flatMap((engine) => [engine.pid, ...engine.workers]);
  await fleet.close();
  expect(pids.some(isRunning)).toBe(false);
});
