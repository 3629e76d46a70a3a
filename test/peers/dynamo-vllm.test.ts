/**
 * NVIDIA's own worker, `python -m dynamo.vllm`, over a real vLLM on CPU, behind the real frontend: pauses, updates by files and by
 * NCCL, adapters and scores. transformers says what each model must compute.
 */

import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, onTestFailed, test } from 'vitest';
import { computeTeacherLogprobs, connectFleet, type FleetOptions, InferenceClient } from '../../src/index.js';
import { failedReport } from '../update/support.js';
import { writeAdapter } from './support/adapter.js';
import { chatInFlight } from './support/dynamo/chat.js';
import { type Deployment, deploy, until, untilListed } from './support/dynamo/deployment.js';
import type { Frontend } from './support/dynamo/frontend.js';
import { filePlane } from './support/dynamo/plane.js';
import { startVllmWorker, type VllmWorker, withChatTemplate } from './support/dynamo/vllm-worker.js';
import { engine } from './support/dynamo/worker.js';
import { SCORE_NOISE } from './support/judge.js';
import { lane } from './support/lane.js';
import { type ModelName, type Models, makeModels } from './support/models.js';
import { tail } from './support/process.js';
import { dynamoVllmPackages } from './support/venv.js';

/** What fits beside a prompt. */
const LONG = 240;

await lane('dynamo.vllm 1.6.1 over vllm 0.31.0', dynamoVllmPackages, (python) => {
  let models: Models;
  let deployment: Deployment;
  let frontend: Frontend;
  let worker: VllmWorker;
  /** A second deployment, whose worker takes adapters. */
  let adapters: { readonly frontend: Frontend; readonly worker: VllmWorker };

  const fleetOf = (options: Partial<FleetOptions> = {}) =>
    connectFleet({
      engines: [`dynamo=${worker.systemUrl},workers=1,inference=${frontend.url}`],
      emulate: true,
      ...options,
    });

  const admin = async (route: string, body: object = {}, to = worker) =>
    (await engine(to.systemUrl, route, body)).body;

  /** Log-probabilities of the prompts, by the client of the product through the real frontend. */
  async function scores(): Promise<number[][]> {
    await using client = new InferenceClient(`dynamo=${frontend.url}`);
    return await computeTeacherLogprobs([client], 'tiny', models.prompts);
  }

  async function expectServes(name: ModelName): Promise<number[][]> {
    const served = await scores();
    const truth = models.truth(name).logprobs;
    const distances = served.flatMap((row, i) =>
      row.slice(1).map((value, j) => Math.abs(value - truth[i]![j]!)),
    );
    expect(Math.max(...distances), `distance from ${name}`).toBeLessThan(SCORE_NOISE);
    return served;
  }

  const chatOf = (model = 'tiny', through = frontend) => chatInFlight(through, { model, tokens: LONG });

  beforeAll(async () => {
    models = await makeModels(python);
    deployment = await deploy(python, await filePlane());
    const model = join(deployment.directory, 'served');
    await withChatTemplate(models.directory('a'), model);
    const env = { DYN_RL_INIT_WEIGHTS_TIMEOUT_S: '10' };
    const start = async (namespace: string, lora: boolean) => {
      const options = { python, plane: deployment.plane, model, namespace, lora, env };
      const [front, started] = await Promise.all([
        deployment.frontend({ namespace }),
        startVllmWorker(options),
      ]);
      await untilListed(front, 1);
      return { frontend: front, worker: started };
    };
    const [plain, withAdapters] = await Promise.all([start('test', false), start('adapters', true)]);
    ({ frontend, worker } = plain);
    adapters = withAdapters;
  }, 900_000);
  afterAll(async () => {
    await Promise.all([worker?.group.stop(), adapters?.worker.group.stop()]);
    await deployment?.stop();
  });
  beforeEach(() => {
    onTestFailed(
      () => void process.stderr.write(`${deployment.logs()}---\n${tail(worker.group.log(), 40)}\n`),
    );
  });

  test('it is found with its routes and its size, and scores as transformers does', async () => {
    const [listed] = await untilListed(frontend, 1);
    expect(listed).toMatchObject({ model: 'tiny', world_size: 1, system_url: worker.systemUrl });
    expect(listed!.routes).not.toContain('load_lora');
    expect(await admin('get_weight_version')).toEqual({
      status: 'ok',
      version: null,
      version_declared: false,
    });
    await expectServes('a');
  });

  test.each(['keep', 'wait'])('a request in flight across a pause by %s finishes whole', async (mode) => {
    const { answer } = await chatOf();
    expect(await admin('pause_generation', { mode })).toMatchObject({ status: 'ok', mode });
    expect(await admin('resume_generation')).toMatchObject({ status: 'ok' });
    expect(await answer).toEqual({ reason: 'length', tokens: LONG });
  });

  test('a request cut by a pause by abort looks like one that stopped by itself', async () => {
    const endings: object[] = [];
    // A request may be over when the pause comes to its turn in the worker: then it was not cut, and the next one is.
    for (let attempt = 0; attempt < 10; attempt += 1) {
      const { answer } = await chatOf();
      expect(await admin('pause_generation', { mode: 'abort' })).toMatchObject({ status: 'ok' });
      const ended = await answer;
      expect(await admin('resume_generation')).toMatchObject({ status: 'ok' });
      endings.push(ended);
      if (ended.reason === 'length' && ended.tokens === LONG) continue;
      expect(ended.reason).toBe('stop');
      expect(ended.tokens).toBeLessThan(LONG);
      return;
    }
    expect(endings).toEqual([]);
  });

  test('NCCL, packed and per tensor, leaves exactly the model that files leave', async () => {
    const fromFiles: Partial<Record<ModelName, number[][]>> = {};
    for (const name of ['b', 'c'] as const) {
      await using fleet = await fleetOf({ transport: 'filesystem' });
      const report = await fleet.update(models.directory(name), { version: `files-${name}` });
      expect(report).toMatchObject({ outcome: 'updated', engines: [{ weightVersion: `files-${name}` }] });
      expect(await admin('get_weight_version')).toMatchObject({
        version: `files-${name}`,
        version_declared: true,
      });
      fromFiles[name] = await expectServes(name);
    }
    for (const [name, format] of [
      ['b', { packedBufferBytes: 100_000 }],
      ['c', { packed: false }],
    ] as const) {
      await using fleet = await fleetOf(format);
      const report = await fleet.update(models.directory(name), { version: `nccl-${name}` });
      expect(report).toMatchObject({
        outcome: 'updated',
        error: null,
        engines: [{ transport: 'nccl', weightVersion: `nccl-${name}` }],
      });
      expect(await admin('get_weight_version')).toMatchObject({ version: `nccl-${name}` });
      expect(await expectServes(name)).toEqual(fromFiles[name]);
    }
  }, 300_000);

  test('three updates in one session, over one rendezvous', async () => {
    await using fleet = await fleetOf({ packedBufferBytes: 100_000 });
    for (const [index, name] of (['a', 'b', 'a'] as const).entries()) {
      const report = await fleet.update(models.directory(name), { version: `step-${index}` });
      expect(report).toMatchObject({ outcome: 'updated', nccl: { reused: index > 0 } });
      await expectServes(name);
    }
  }, 300_000);

  test.each([1, 2])(
    'a worker that sleeps at level %i is named and not touched; awake again it takes the update',
    async (level) => {
      await using fleet = await fleetOf({ transport: 'filesystem' });
      expect(await admin('control/sleep', { level })).toMatchObject({ status: 'ok' });
      await until(
        () => frontend.models(),
        (listed) => listed.length === 0,
      );
      expect((await frontend.rlWorkers()).workers).toMatchObject([{ system_url: worker.systemUrl }]);
      const said = await admin('get_weight_version');
      const report = await failedReport(fleet.update(models.directory('b'), { version: `asleep-${level}` }));
      expect(report).toMatchObject({
        outcome: 'failed',
        error: { code: 'WC_ENGINE_ASLEEP', engine: worker.systemUrl, phase: 'preflight' },
      });
      expect(await admin('get_weight_version')).toEqual(said);
      expect((await admin('update_weights_from_disk')).message).toMatch(/^Worker must be paused/);
      expect(await admin('control/wake_up')).toMatchObject({ status: 'ok' });
      await until(
        () => frontend.models(),
        (listed) => listed.length === 1,
      );
      const awake = await fleet.update(models.directory('b'), { version: `awake-${level}` });
      expect(awake).toMatchObject({ outcome: 'updated' });
      await expectServes('b');
    },
  );

  test('an adapter is loaded, answers by its name, is swapped by another name, and unloaded', async () => {
    const [one, two] = [join(deployment.directory, 'lora-1'), join(deployment.directory, 'lora-2')];
    await writeAdapter(one, 0.2);
    await writeAdapter(two, 0.4);
    const ask = (route: string, body: object = {}) => admin(route, body, adapters.worker);
    const load = (name: string, directory: string) =>
      ask('load_lora', { lora_name: name, source: { uri: `file://${directory}` } });
    const listed = (names: readonly string[]) =>
      until(
        () => adapters.frontend.models(),
        (found) => JSON.stringify(found) === JSON.stringify(names),
      );
    const generated = async (model: string) => {
      await using client = new InferenceClient(`dynamo=${adapters.frontend.url}`);
      const request = { tokens: models.prompts[0]!, maxTokens: 8, temperature: 0, logprobs: true };
      return (await client.generate({ ...request, model, weightVersion: model })).logprobs;
    };
    expect((await untilListed(adapters.frontend, 1))[0]!.routes).toContain('load_lora');
    const base = await generated('tiny');
    expect(await load('policy-v1', one)).toMatchObject({ status: 'success', hot_swap: false });
    await listed(['policy-v1', 'tiny']);
    const first = await generated('policy-v1');
    expect(first).not.toEqual(base);

    // The same name again is a success that changes nothing; another name is what swaps.
    expect(await load('policy-v1', two)).toMatchObject({ status: 'success', hot_swap: false });
    expect(await generated('policy-v1')).toEqual(first);
    expect(await load('policy-v2', two)).toMatchObject({ status: 'success' });
    await listed(['policy-v1', 'policy-v2', 'tiny']);
    expect(await generated('policy-v2')).not.toEqual(first);

    const { answer } = await chatOf('policy-v2', adapters.frontend);
    expect(await ask('pause_generation', { mode: 'keep' })).toEqual({
      status: 'error',
      message: 'Cannot pause generation in keep mode with active LoRA requests: policy-v2',
    });
    expect(await ask('pause_generation', { mode: 'wait' })).toMatchObject({ status: 'ok' });
    expect(await answer).toEqual({ reason: 'length', tokens: LONG });
    expect(await ask('resume_generation')).toMatchObject({ status: 'ok' });

    expect(await ask('unload_lora', { lora_name: 'policy-v1' })).toMatchObject({ status: 'success' });
    expect(await ask('unload_lora', { lora_name: 'policy-v2' })).toMatchObject({ status: 'success' });
    await listed(['tiny']);
    expect(await generated('tiny')).toEqual(base);
  });

  test('while a group’s start blocks, version, liveness and discovery answer and a pause does not; then the watchdog ends the worker', async () => {
    const silent = createServer(() => {}).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const { port } = silent.address() as { port: number };
    const init = engine(worker.systemUrl, 'init_weights_update_group', {
      engine_rpc: 'init_weight_transfer_engine',
      init_info: { master_address: '127.0.0.1', master_port: port, rank_offset: 1, world_size: 2 },
    });
    const ended = expect(init).rejects.toThrow('fetch failed');
    await once(silent, 'connection');

    const pause = engine(worker.systemUrl, 'pause_generation', {}, 2_000);
    await expect(pause).rejects.toThrow(/aborted|timeout/i);
    expect(await admin('get_weight_version')).toMatchObject({ status: 'ok' });
    expect(await admin('liveness_probe')).toEqual({ status: 'ok', alive: true });
    expect((await frontend.rlWorkers()).workers).toMatchObject([{ system_url: worker.systemUrl }]);

    await ended;
    await until(
      async () => worker.group.exitCode(),
      (code) => code === 1,
    );
    await until(
      () => frontend.rlWorkers(),
      ({ workers }) => workers.length === 0,
    );
    expect(await frontend.models()).toEqual([]);
    silent.close();
  }, 120_000);
});
