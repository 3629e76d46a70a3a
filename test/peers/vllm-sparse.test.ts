/**
 * A real vLLM 0.32 with the backend `sparse_nccl` takes our deltas through its own receive code and its own weight loader; its own weight checker says whether
 * every byte is right.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, expect, onTestFailed, test } from 'vitest';
import { connectFleet } from '../../src/index.js';
import { writeChanged } from '../weights/changed.js';
import { mainScript, push } from './support/command.js';
import { isPaused, post, SCORE_NOISE, scoreDistance, weightChecker } from './support/judge.js';
import { lane } from './support/lane.js';
import { type Models, makeModels } from './support/models.js';
import { tail } from './support/process.js';
import { startVllm, type VllmServer } from './support/server.js';
import { vllmPackages } from './support/venv.js';

const NCCL = ['--transport', 'nccl', '--emulate'];

await lane('vllm 0.32.0 sparse', vllmPackages('0.32.0'), (python) => {
  let models: Models;
  let folder: string;
  /** a, and versions that each are a little away from the one before. */
  let versions: string[];
  /** One worker. */
  let one: VllmServer;
  /** Two workers. */
  let two: VllmServer;
  const servers: VllmServer[] = [];

  /** What the server says of itself once it has loaded these files from disk by its own loader. */
  async function checksumsOfLoaded(server: VllmServer, directory: string) {
    await post(server, '/pause?mode=keep&clear_cache=true');
    await post(server, '/collective_rpc', {
      method: 'reload_weights',
      kwargs: { weights_path: directory },
    });
    const checksums = await weightChecker(server);
    await post(server, '/resume');
    return checksums;
  }

  beforeAll(async () => {
    models = await makeModels(python);
    folder = await mkdtemp(join(tmpdir(), 'weightcast-sparse-peer-'));
    versions = [models.directory('a')];
    for (let step = 1; step <= 4; step += 1) {
      const path = join(folder, `step_${step}`);
      await writeChanged(versions.at(-1)!, path, { fraction: step === 4 ? 0.2 : 0.02, seed: 11 * step });
      versions.push(path);
    }
    const start = (more: { tensorParallel?: number }) =>
      startVllm({ python, model: models.directory('a'), transfer: 'sparse_nccl', ...more });
    [one, two] = await Promise.all([start({}), start({ tensorParallel: 2 })]);
    servers.push(one, two);
  }, 900_000);
  afterAll(async () => {
    await Promise.all(servers.map((server) => server.stop()));
    await rm(folder, { recursive: true, force: true });
  });
  beforeEach(() => {
    onTestFailed(() => {
      for (const server of servers) process.stderr.write(`--- ${server.url}\n${tail(server.log(), 30)}\n`);
    });
  });

  test('deltas in a row reach every parameter of one and two workers, and lead back to the very bytes of the start', async () => {
    const seen: Record<string, string>[][] = [];
    await using fleet = await connectFleet({ engines: [one.url, two.url], emulate: true, verify: 'digest' });
    const path = [1, 2, 3, 2, 1, 0];
    for (const [index, version] of path.entries()) {
      const before = index === 0 ? 0 : path[index - 1]!;
      const report = await fleet.update(versions[version]!, {
        deltaFrom: versions[before]!,
        version: `step-${index}`,
      });
      expect(report).toMatchObject({ outcome: 'updated', transport: 'nccl', nccl: { reused: index > 0 } });
      for (const [workers, engine] of report.engines.entries()) {
        expect(engine).toMatchObject({
          state: 'serving-new',
          transport: 'nccl',
          weightVersion: `step-${index}`,
        });
        const total = 27 * (1 + workers);
        expect(engine.proof).toMatchObject({ method: 'digest', proved: total, total, mismatched: [] });
      }
      expect(report.delta!.bytes / report.delta!.denseBytes).toBeLessThan(0.07);
      expect(report.transfer!.bytes).toBe(report.delta!.bytes);
      seen.push([await weightChecker(one), await weightChecker(two)]);
    }
    for (const [index, server] of [one, two].entries()) {
      expect(await weightChecker(server)).toEqual(models.truth('a').served[server.workers]);
      expect(await isPaused(server)).toBe(false);
      expect(await scoreDistance(server, models, 'a')).toBeLessThan(SCORE_NOISE);
      // On the way each was what the server's own loader makes of the same files.
      expect(seen[1]![index]).toEqual(seen[3]![index]);
      expect(seen[1]![index]).not.toEqual(seen[2]![index]);
      expect(await checksumsOfLoaded(server, versions[2]!)).toEqual(seen[1]![index]);
      await checksumsOfLoaded(server, versions[0]!);
    }
  }, 300_000);

  test('a push from a new process proves the base by the weight checker, and an unchanged model is an update that sends nothing', async () => {
    const delta = ['--delta-from', versions[0]!];
    const first = await push(versions[1]!, [one, two], [...NCCL, ...delta, '--weight-version', 'v1']);
    expect(first.report, first.stderr).toMatchObject({ outcome: 'updated', delta: { base: versions[0] } });
    expect(first.code).toBe(0);
    const held = await Promise.all([one, two].map(weightChecker));
    const again = await push(
      versions[1]!,
      [one, two],
      [...NCCL, '--delta-from', versions[1]!, '--weight-version', 'v2'],
    );
    expect(again.report, again.stderr).toMatchObject({
      outcome: 'updated',
      transfer: { bytes: 0 },
      delta: { elements: 0, bytes: 0 },
      engines: [{ weightVersion: 'v2' }, { weightVersion: 'v2' }],
    });
    expect(await Promise.all([one, two].map(weightChecker))).toEqual(held);
  }, 240_000);

  test('engines that hold another version are named, and nobody is paused; with the fallback they load it from disk', async () => {
    const before = await Promise.all([one, two].map(weightChecker));
    const refused = await push(versions[3]!, [one, two], [...NCCL, '--delta-from', versions[2]!]);
    expect(refused.report, refused.stderr).toMatchObject({
      outcome: 'failed',
      error: { code: 'WC_DELTA_BASE' },
      pauseMs: null,
      engines: [{ state: 'serving-old' }, { state: 'serving-old' }],
    });
    expect(refused.code).toBe(1);
    expect(await Promise.all([one, two].map(weightChecker))).toEqual(before);

    // One of them gets there on its own, so that only the other one is behind.
    const alone = await push(versions[2]!, [one], [...NCCL, '--delta-from', versions[1]!]);
    expect(alone.report, alone.stderr).toMatchObject({ outcome: 'updated' });
    const mixed = await push(
      versions[3]!,
      [one, two],
      [...[...NCCL, '--delta-from', versions[2]!], ...['--fallback', 'filesystem', '--verify', 'digest']],
    );
    expect(mixed.report, mixed.stderr).toMatchObject({
      outcome: 'updated',
      engines: [{ transport: 'nccl' }, { transport: 'filesystem' }],
    });
    for (const server of [one, two]) {
      const served = await weightChecker(server);
      expect(await checksumsOfLoaded(server, versions[3]!)).toEqual(served);
      expect(await isPaused(server)).toBe(false);
    }
  }, 300_000);

  test('a sender killed in the middle of a delta leaves engines that no further delta touches, healed from disk and proved', async () => {
    const engines = [one, two];
    const before = engines.map(sessionsOpened);
    const args = [...NCCL, '--no-guardian', '--delta-from', versions[3]!];
    const sender = spawn(
      process.execPath,
      [mainScript, 'push', versions[4]!, ...args, ...engines.flatMap(({ url }) => ['-e', url])],
      // Bytes a second, and the delta has 250 KB.
      { env: { ...process.env, WEIGHTCAST_EMULATOR_FAULTS: 'slow=60000' }, stdio: 'ignore' },
    );
    const exited = once(sender, 'exit');
    while (engines.some((server, index) => sessionsOpened(server) === before[index])) {
      expect(sender.exitCode).toBeNull();
      await sleep(20);
    }
    await sleep(1_000);
    sender.kill('SIGKILL');
    await exited;
    for (const server of engines) expect(await isPaused(server)).toBe(true);

    const refused = await push(versions[4]!, engines, [...NCCL, '--delta-from', versions[3]!]);
    expect(refused.report, refused.stderr).toMatchObject({
      outcome: 'quarantined',
      error: { code: 'WC_DELTA_BASE' },
      engines: [{ state: 'quarantined' }, { state: 'quarantined' }],
    });
    expect(refused.code).toBe(3);

    const healed = await push(versions[4]!, engines, [
      ...[...NCCL, '--delta-from', versions[3]!],
      ...['--fallback', 'filesystem', '--verify', 'digest'],
    ]);
    expect(healed.report, healed.stderr).toMatchObject({
      outcome: 'updated',
      transport: 'filesystem',
      delta: null,
      engines: [
        { proof: { method: 'digest', mismatched: [] } },
        { proof: { method: 'digest', mismatched: [] } },
      ],
    });
    const back = await push(versions[3]!, engines, [
      ...NCCL,
      '--delta-from',
      versions[4]!,
      '--verify',
      'digest',
    ]);
    expect(back.report, back.stderr).toMatchObject({ outcome: 'updated', transport: 'nccl' });
    for (const server of engines) {
      const served = await weightChecker(server);
      expect(await checksumsOfLoaded(server, versions[3]!)).toEqual(served);
      expect(await isPaused(server)).toBe(false);
    }
  }, 300_000);
});

/** How often the server's own log says that an update session was opened. */
function sessionsOpened(server: VllmServer): number {
  return server.log().split('POST /start_weight_update').length - 1;
}
