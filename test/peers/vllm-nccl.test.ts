/**
 * A real vLLM 0.32, which nobody here wrote, takes our pushes through its own receive code; its own weight checker and its
 * log-probabilities say whether the bytes are right.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, expect, onTestFailed, test } from 'vitest';
import { connectFleet, type UpdateEvent } from '../../src/index.js';
import { mainScript, push } from './support/command.js';
import { isPaused, post, SCORE_NOISE, scoreDistance, weightChecker } from './support/judge.js';
import { lane } from './support/lane.js';
import { type ModelName, type Models, makeModels } from './support/models.js';
import { tail } from './support/process.js';
import { startVllm, type VllmServer } from './support/server.js';
import { vllmPackages } from './support/venv.js';

const NCCL = ['--transport', 'nccl', '--emulate'];
/** Four broadcasts for a model of 430 KB. */
const PACKED = ['--packed-buffer-bytes', '100000'];

await lane('vllm 0.32.0', vllmPackages('0.32.0'), (python) => {
  let models: Models;
  /** One worker. */
  let one: VllmServer;
  /** Two workers. */
  let two: VllmServer;
  const servers: VllmServer[] = [];

  const start = async (options: Partial<Parameters<typeof startVllm>[0]> = {}) => {
    const server = await startVllm({ python, model: models.directory('a'), transfer: 'nccl', ...options });
    servers.push(server);
    return server;
  };

  /** The server's own word for it: every byte of every worker, and what it computes with them. */
  async function expectServes(server: VllmServer, name: ModelName): Promise<void> {
    expect(await weightChecker(server)).toEqual(models.truth(name).served[server.workers]);
    expect(await isPaused(server)).toBe(false);
    expect(await scoreDistance(server, models, name)).toBeLessThan(SCORE_NOISE);
  }

  beforeAll(async () => {
    models = await makeModels(python);
    [one, two] = await Promise.all([start(), start({ tensorParallel: 2 })]);
  }, 900_000);
  afterAll(() => Promise.all(servers.map((server) => server.stop())));
  beforeEach(() => {
    onTestFailed(() => {
      for (const server of servers) process.stderr.write(`--- ${server.url}\n${tail(server.log(), 30)}\n`);
    });
  });

  test('the servers start with model a, and its scores are far from those of b and c', async () => {
    await expectServes(one, 'a');
    await expectServes(two, 'a');
    for (const other of ['b', 'c'] as const) {
      expect(await scoreDistance(one, models, other)).toBeGreaterThan(2);
    }
  });

  test.each([
    ['one worker, packed', () => one, 'b', PACKED],
    ['one worker, per tensor, from a new process', () => one, 'c', ['--no-packed']],
    ['two workers, packed', () => two, 'b', PACKED],
    ['two workers, per tensor, from a new process', () => two, 'c', ['--no-packed']],
  ] as const)('a push reaches every byte: %s', async (_, server, name, format) => {
    const args = [...NCCL, ...format, '--weight-version', `${name}-1`];
    const pushed = await push(models.directory(name), [server()], args);
    expect(pushed.report, pushed.stderr).toMatchObject({
      outcome: 'updated',
      emulated: true,
      error: null,
      engines: [
        {
          state: 'serving-new',
          transport: 'nccl',
          weightVersion: `${name}-1`,
          proof: { method: 'digest', mismatched: [], unprovable: [] },
        },
      ],
    });
    const { proved, total } = pushed.report.engines[0]!.proof!;
    expect([proved, total]).toEqual([27 * server().workers, 27 * server().workers]);
    expect(pushed.code).toBe(0);
    await expectServes(server(), name);
  });

  test('two engines of one and two workers take one push', async () => {
    const pushed = await push(models.directory('a'), [one, two], [...NCCL, ...PACKED]);
    expect(pushed.report, pushed.stderr).toMatchObject({ outcome: 'updated', nccl: { worldSize: 4 } });
    expect(pushed.code).toBe(0);
    await expectServes(one, 'a');
    await expectServes(two, 'a');
  });

  test('ten updates in one session reach both engines, over one rendezvous', async () => {
    await using fleet = await connectFleet({
      engines: [`vllm=${one.url}`, `vllm=${two.url}`],
      emulate: true,
      packedBufferBytes: 100_000,
    });
    const names: readonly ModelName[] = ['b', 'c', 'a', 'c', 'b', 'a', 'b', 'a', 'c', 'b'];
    for (const [index, name] of names.entries()) {
      const report = await fleet.update(models.directory(name), { version: `step-${index}` });
      expect(report).toMatchObject({ outcome: 'updated', nccl: { reused: index > 0 } });
      expect(report.engines.map((engine) => engine.weightVersion)).toEqual([
        `step-${index}`,
        `step-${index}`,
      ]);
      await expectServes(one, name);
      await expectServes(two, name);
    }
  }, 300_000);

  test('requests in flight across a keep pause finish whole', async () => {
    const spans: Partial<Record<string, number>> = {};
    const mark = (event: UpdateEvent) => {
      if (event.kind === 'phase') spans[event.phase] ??= performance.now();
    };
    await using fleet = await connectFleet({ engines: [one.url], emulate: true, onEvent: mark });
    await fleet.update(models.directory('c')); // so that the next one only pauses and transfers
    delete spans.pause;
    delete spans.resume;

    const requests: { from: number; to: number; tokens: number; reason: string }[] = [];
    let updating = true;
    const client = async (seed: number) => {
      while (updating) {
        const from = performance.now();
        const reply = await post<{
          choices: { finish_reason: string }[];
          usage: { completion_tokens: number };
        }>(one, '/v1/completions', {
          model: one.model,
          prompt: [seed, 3, 5],
          max_tokens: 110,
          ignore_eos: true,
          temperature: 1,
          seed,
        });
        requests.push({
          from,
          to: performance.now(),
          tokens: reply.usage.completion_tokens,
          reason: reply.choices[0]!.finish_reason,
        });
      }
    };
    const clients = [11, 12, 13].map(client);
    while (requests.length < 3) await sleep(10);
    const report = await fleet.update(models.directory('b'));
    updating = false;
    await Promise.all(clients);

    expect(report.outcome).toBe('updated');
    expect(requests.every(({ tokens, reason }) => tokens === 110 && reason === 'length')).toBe(true);
    const across = requests.filter(({ from, to }) => from < spans.pause! && to > spans.resume!);
    expect(across.length).toBeGreaterThan(0);
    await expectServes(one, 'b');
  });

  test('a sender killed in the middle of a transfer leaves engines that only a push by files resumes, healed in place', async () => {
    const engines = [one, two];
    const before = engines.map(sessionsOpened);
    const sender = spawn(
      process.execPath,
      [mainScript, 'push', models.directory('a'), ...NCCL, ...PACKED, '-e', one.url, '-e', two.url],
      {
        env: { ...process.env, WEIGHTCAST_EMULATOR_FAULTS: 'slow=100000' }, // bytes a second: four seconds for the model
        stdio: 'ignore',
      },
    );
    const exited = once(sender, 'exit');
    while (engines.some((server, index) => sessionsOpened(server) === before[index])) {
      expect(sender.exitCode).toBeNull();
      await sleep(20);
    }
    await sleep(1_000); // a quarter of the transfer
    sender.kill('SIGKILL');
    await exited;

    for (const server of engines) {
      expect(await isPaused(server)).toBe(true); // answered only after its receive has ended
      expect(server.log()).toContain('NCCL error: remote process exited');
    }

    const refused = await push(models.directory('a'), engines, [...NCCL, ...PACKED]);
    expect(refused.report, refused.stderr).toMatchObject({
      outcome: 'quarantined',
      engines: [{ state: 'quarantined' }, { state: 'quarantined' }],
    });
    expect(refused.code).toBe(3);
    for (const server of engines) expect(await isPaused(server)).toBe(true);

    const pushed = await push(models.directory('c'), engines, ['--transport', 'filesystem']);
    expect(pushed.report, pushed.stderr).toMatchObject({ outcome: 'updated' });
    expect(pushed.code).toBe(0);
    await expectServes(one, 'c');
    await expectServes(two, 'c');
  });

  test('after the healing the same servers take a push by NCCL again', async () => {
    const pushed = await push(models.directory('b'), [one, two], [...NCCL, ...PACKED]);
    expect(pushed.report, pushed.stderr).toMatchObject({ outcome: 'updated' });
    await expectServes(one, 'b');
    await expectServes(two, 'b');
  });

  test('a server restarted between two updates of one session gets the next update by a fresh rendezvous', async () => {
    await two.stop();
    await using fleet = await connectFleet({ engines: [one.url], emulate: true, packedBufferBytes: 100_000 });
    await fleet.update(models.directory('c'));
    await one.stop();
    one = await start({ port: one.port });
    await expectServes(one, 'a');
    const report = await fleet.update(models.directory('b'));
    expect(report).toMatchObject({ outcome: 'updated', nccl: { reused: false } });
    await expectServes(one, 'b');
  }, 600_000);

  test('a server started without NCCL takes a push by files, with tied embeddings too', async () => {
    await one.stop();
    const plain = await start({ transfer: 'none', model: models.directory('tied-a') });
    const pushed = await push(models.directory('tied-b'), [plain], ['--transport', 'filesystem']);
    expect(pushed.report, pushed.stderr).toMatchObject({
      outcome: 'updated',
      transport: 'filesystem',
      emulated: false,
      engines: [{ transport: 'filesystem' }],
    });
    expect(pushed.code).toBe(0);
    expect(await scoreDistance(plain, models, 'tied-b')).toBeLessThan(SCORE_NOISE);

    const refused = await push(models.directory('tied-a'), [plain], NCCL);
    expect(refused.code).toBe(1);
    expect(refused.report).toMatchObject({
      outcome: 'failed',
      error: { code: 'WC_ENGINE_NOT_CONFIGURED' },
      engines: [{ state: 'serving-old' }],
    });
    expect(await isPaused(plain)).toBe(false);
    expect(await scoreDistance(plain, models, 'tied-b')).toBeLessThan(SCORE_NOISE);

    const fallen = await push(models.directory('tied-a'), [plain], [...NCCL, '--fallback', 'filesystem']);
    expect(fallen.report, fallen.stderr).toMatchObject({ outcome: 'updated', transport: 'filesystem' });
    expect(await scoreDistance(plain, models, 'tied-a')).toBeLessThan(SCORE_NOISE);
  }, 600_000);
});

/** How often the server's own log says that an update session was opened. */
function sessionsOpened(server: VllmServer): number {
  return server.log().split('POST /start_weight_update').length - 1;
}
