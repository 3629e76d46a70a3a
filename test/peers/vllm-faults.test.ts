/**
 * The fault table on a real vLLM 0.32: each row strikes between a push and the server, and the server's own weight checker, pause state and
 * log-probabilities say what became of it. A reference engine goes through the same rows and must do the same: what the fault simulator finds on
 * reference engines then holds for real ones.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, expect, onTestFailed, test } from 'vitest';
import { Clock } from '../../bench/peers/fault-logic/peer.js';
import { vllmTrainer } from '../../bench/peers/fault-logic/vllm-trainer.js';
import { type ReferenceEngine, startReferenceEngine } from '../../src/testing/index.js';
import { mainScript } from './support/command.js';
import { FAULT_ROWS, type FaultRow, scriptRow } from './support/fault-rows.js';
import { FaultTarget, type Observed } from './support/fault-target.js';
import { post } from './support/judge.js';
import { lane } from './support/lane.js';
import { type ModelName, type Models, makeModels } from './support/models.js';
import { tail } from './support/process.js';
import { startVllm, type VllmServer } from './support/server.js';
import { vllmPackages } from './support/venv.js';

await lane('vllm 0.32.0 faults', vllmPackages('0.32.0'), (python) => {
  let models: Models;
  let server: VllmServer;
  let reference: ReferenceEngine;
  let real: FaultTarget;
  let modelled: FaultTarget;
  let scratch: string;
  /** What both serve. */
  let current: ModelName = 'a';

  const targets = () => [real, modelled] as const;
  const next = (): ModelName => ({ a: 'b', b: 'c', c: 'a' })[current as 'a' | 'b' | 'c'] as ModelName;

  beforeAll(async () => {
    models = await makeModels(python);
    scratch = await mkdtemp(join(tmpdir(), 'weightcast-faults-'));
    const model = models.directory('a');
    server = await startVllm({ python, model, transfer: 'nccl' });
    reference = await startReferenceEngine({ model, version: '0.32.0', servedModelName: model });
    real = await FaultTarget.open(server, models);
    modelled = await FaultTarget.open({ url: reference.url, model }, models);
  }, 900_000);
  afterAll(async () => {
    await Promise.all([real?.close(), modelled?.close()]);
    await Promise.all([server?.stop(), reference?.close()]);
    await rm(scratch, { recursive: true, force: true });
  });
  beforeEach(() => {
    onTestFailed(() => {
      process.stderr.write(`--- ${server.url}\n${tail(server.log(), 30)}\n`);
    });
  });

  async function expectBothServe(name: ModelName): Promise<void> {
    for (const target of targets()) {
      expect(await target.paused()).toBe(false);
      expect(await target.holds()).toBe(name);
    }
    expect(await real.scores(name)).toBe(true);
    current = name;
  }

  /** A whole push without faults heals whatever there is to heal. */
  async function expectHealed(push: (target: FaultTarget, directory: string) => Promise<Observed>) {
    const name = next();
    for (const target of targets()) {
      target.proxy.clear();
      const healed = await push(target, models.directory(name));
      expect(healed).toMatchObject({ outcome: 'updated', state: 'serving-new', error: null });
    }
    await expectBothServe(name);
  }

  const pushOnce = async (target: FaultTarget, directory: string): Promise<Observed> => {
    await using session = await target.connect();
    return await target.push(session, directory);
  };

  async function strike(target: FaultTarget, row: FaultRow, directory: string): Promise<Observed> {
    await using session = await target.connect(row);
    let ended = () => {};
    const pushed = new Promise<void>((resolve) => {
      ended = resolve;
    });
    scriptRow(target.proxy, row, pushed);
    return await target.push(session, directory, async () => {
      ended();
      if (row.paused) await expect.poll(() => target.paused(), { timeout: 10_000 }).toBe(true);
    });
  }

  test.each(FAULT_ROWS)('$fault', async (row) => {
    const name = next();
    const observed = await strike(real, row, models.directory(name));
    expect(await strike(modelled, row, models.directory(name))).toEqual(observed);
    expect(observed).toMatchObject({ outcome: row.outcome, paused: row.paused });
    if (row.serves !== null) {
      expect(observed.holds).toBe(row.serves === 'old' ? current : name);
      if (!row.paused) await expectBothServe(observed.holds as ModelName);
    }
    expect(observed.posts.filter((path) => path === '/update_weights').length).toBeLessThanOrEqual(1);
    await expectHealed(pushOnce);
  });

  test('a checkpoint that the loader refuses half-way leaves a held engine, which the next push heals', async () => {
    const spoiled = await misnamed(models.directory('c'), scratch);
    const observed = await pushOnce(real, spoiled);
    expect(await pushOnce(modelled, spoiled)).toEqual(observed);
    expect(observed).toMatchObject({ outcome: 'quarantined', phase: 'transfer', paused: true, holds: null });
    await expectHealed(pushOnce);
  });

  test('a sender killed in mid-transfer leaves a held engine, which the next push heals', async () => {
    for (const target of targets()) {
      await killedSender(target, models.directory(next()));
      expect(await target.paused()).toBe(true); // answered once its receive has ended
      expect(await target.holds()).toBeNull();
    }
    await expectHealed(pushOnce);
  });

  test("vLLM's own client leaves a server paused when a finish is lost, also when it runs again; our push heals that", async () => {
    const name = next();
    for (const target of targets()) {
      const script = () =>
        vllmTrainer({
          engines: [{ url: target.proxy.url, workers: 1 }],
          checkpoint: models.directory(name),
          packedBufferBytes: 100_000,
          clock: new Clock({ msPerSecond: 100, shortestMs: 5_000 }),
          signal: new AbortController().signal,
        });
      target.proxy.on('/finish_weight_update', { kind: 'drop' });
      await expect(script()).rejects.toThrow('/finish_weight_update');
      expect(await target.paused()).toBe(true);
      target.proxy.clear();
      await expect(script()).rejects.toThrow('/start_weight_update answered 500');
      expect(await target.paused()).toBe(true);
    }
    await expectHealed(pushOnce);
  });

  test('an engine in an open session dies of the first request after a resume, as prime-rl resumes it', async () => {
    await post(server, '/pause?mode=keep');
    await post(server, '/start_weight_update');
    await post(server, '/resume');
    await expect(real.scores(current)).rejects.toThrow('EngineCore encountered an issue');
    await expect.poll(() => alive(server.url), { timeout: 30_000 }).toBe(false);

    const own = { url: reference.url, model: server.model, workers: 1 };
    await post(own, '/pause?mode=keep');
    await post(own, '/start_weight_update');
    await post(own, '/resume');
    await expect(modelled.scores(current)).rejects.toThrow('EngineCore encountered an issue');
    await expect.poll(() => alive(reference.url), { timeout: 30_000 }).toBe(false);
  });

  test('a push to a server that is down says so; started again under its address, it takes the next push', async () => {
    const directory = models.directory('b');
    const sessions = [];
    for (const target of targets()) {
      // The session of before: its engine is another process the next time.
      await expect(target.connect()).rejects.toMatchObject({ code: 'WC_ENGINE_UNREACHABLE' });
    }
    await server.stop();
    server = await startVllm({ python, model: server.model, transfer: 'nccl', port: server.port });
    reference = await startReferenceEngine({
      model: server.model,
      version: '0.32.0',
      servedModelName: server.model,
      port: reference.port,
    });
    await expectBothServe('a');
    for (const target of targets()) {
      const session = await target.connect();
      sessions.push(session);
      expect(await target.push(session, directory)).toMatchObject({ outcome: 'updated' });
    }
    await expectBothServe('b');
    await Promise.all(sessions.map((session) => session.close()));
  }, 600_000);
});

async function alive(url: string): Promise<boolean> {
  return await fetch(`${url}/health`, { signal: AbortSignal.timeout(5_000) }).then(
    () => true,
    () => false,
  );
}

/** A copy of a model of one file in which a tensor of the last layer has a name of the same length that no model knows. */
async function misnamed(directory: string, scratch: string): Promise<string> {
  const copy = join(scratch, 'misnamed');
  await cp(directory, copy, { recursive: true });
  const file = join(copy, 'model.safetensors');
  const bytes = await readFile(file);
  const at = bytes.indexOf('model.layers.2.mlp.up_proj.weight');
  expect(at).toBeGreaterThan(0);
  bytes.write('model.layers.2.mlp.xp_proj.weight', at);
  await writeFile(file, bytes);
  return copy;
}

/** `weightcast push`, killed when a quarter of its transfer is through. */
async function killedSender(target: FaultTarget, directory: string): Promise<void> {
  const asked = new Promise<void>((resolve) => {
    target.proxy.on('/update_weights', { kind: 'watch', seen: resolve });
  });
  const args = ['push', directory, '--emulate', '--packed-buffer-bytes', '100000', '-e', target.proxy.url];
  const sender = spawn(process.execPath, [mainScript, ...args], {
    env: { ...process.env, WEIGHTCAST_EMULATOR_FAULTS: 'slow=100000' }, // bytes a second: four seconds for the model
    stdio: 'ignore',
  });
  const exited = once(sender, 'exit');
  await Promise.race([asked, exited]);
  expect(sender.exitCode).toBeNull();
  await sleep(1_000);
  sender.kill('SIGKILL');
  await exited;
}
