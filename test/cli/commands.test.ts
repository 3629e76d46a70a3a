/** The built command line against reference engines: what a person would type. */
import { once } from 'node:events';
import { mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { simulateFleet, writeTinyModel } from '../../src/testing/index.js';
import type { UpdateReport } from '../../src/update/types.js';
import { MAIN, processesWith, Spawned, weightcast } from './spawned.js';

const LONG = 60_000;

let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weightcast-commands-'));
});
afterEach(() => rm(folder, { recursive: true }));

async function step(n: number): Promise<string> {
  const path = join(folder, `step_${n}`);
  await writeTinyModel(join(folder, 'next'), { seed: n, shards: 2 });
  await writeFile(join(folder, 'next', 'STABLE'), '');
  await rename(join(folder, 'next'), path);
  return path;
}

test('push by NCCL, push by files and watch change what simulated engines serve', {
  timeout: LONG,
}, async () => {
  await using fleet = await simulateFleet({ engines: 2, workers: 2 });
  const engines = fleet.addresses.flatMap((url) => ['-e', `vllm=${url}`]);
  const held = async () =>
    JSON.stringify(
      await Promise.all(
        fleet.engines.map((engine) => engine.digests().then((all) => all.map((one) => [...one]))),
      ),
    );
  const before = await held();

  const first = await weightcast([
    'push',
    await step(1),
    ...engines,
    '--emulate',
    '--weight-version',
    'one',
    '--json',
  ]);
  const report: UpdateReport = JSON.parse(first.out);
  expect(first.code).toBe(0);
  expect(report).toMatchObject({ outcome: 'updated', version: 'one', transport: 'nccl', emulated: true });
  for (const { state, proof, weightVersion } of report.engines) {
    expect({ state, weightVersion, mismatched: proof?.mismatched }).toEqual({
      state: 'serving-new',
      weightVersion: 'one',
      mismatched: [],
    });
    expect(proof?.proved).toBe(proof?.total);
  }
  const afterFirst = await held();
  expect(afterFirst).not.toBe(before);

  const second = await weightcast(['push', await step(2), ...engines, '-t', 'filesystem']);
  expect(second.code).toBe(0);
  expect(second.out).toMatch(/^updated in .*: 2 engines\n/);
  expect(second.err).toContain('pause\n');
  const afterSecond = await held();
  expect(afterSecond).not.toBe(afterFirst);

  await step(3);
  await using watching = new Spawned([
    MAIN,
    'watch',
    folder,
    ...engines,
    '--emulate',
    '--json',
    '--interval',
    '0.05',
    '--max-updates',
    '2',
  ]);
  await watching.out.seen('\n');
  await step(4);
  const watched = await watching.ended;
  expect(watched.code).toBe(0);
  const [third, fourth, ...rest] = watched.out
    .trimEnd()
    .split('\n')
    .map((line): UpdateReport => JSON.parse(line));
  expect(third).toMatchObject({ outcome: 'updated', version: '3', nccl: { reused: false } });
  expect(fourth).toMatchObject({ outcome: 'updated', version: '4', nccl: { reused: true } });
  expect(rest).toEqual([]);
});

test('simulate prints addresses and a push that works, and a signal ends every process', {
  timeout: LONG,
}, async () => {
  const env = { TMPDIR: folder };
  await using simulation = new Spawned([MAIN, 'simulate', '--engines', '2', '--workers', '2', '--json'], env);
  await simulation.out.seen('\n');
  const facts: { engines: { url: string; workers: number[] }[]; push: string } = JSON.parse(
    simulation.out.text,
  );
  expect(facts.engines.map(({ workers }) => workers.length)).toEqual([2, 2]);

  const doctor = await weightcast(['doctor', '--emulate', '-e', facts.engines[0]!.url, '--json']);
  expect(JSON.parse(doctor.out)).toMatchObject({
    ok: true,
    engines: [{ version: '0.32.0', workers: 2, paused: false }],
  });
  expect(doctor.code).toBe(0);

  const pushed = await weightcast(facts.push.split(' ').slice(1));
  expect(pushed.code).toBe(0);
  expect(pushed.out).toContain('EMULATED: no GPU, no NCCL; numbers say nothing about a GPU');

  simulation.signal('SIGTERM');
  expect(await simulation.ended).toMatchObject({ code: 0, signal: null });
  expect(await processesWith(`TMPDIR=${folder}`)).toEqual([]);
  expect(await readdir(folder)).toEqual([]);
});

test('simulate can take deltas, and prints the push of one', { timeout: LONG }, async () => {
  const args = ['simulate', '--weight-transfer', 'sparse_nccl', '--json'];
  await using simulation = new Spawned([MAIN, ...args], { TMPDIR: folder });
  await simulation.out.seen('\n');
  const { push, model } = JSON.parse(simulation.out.text);
  const pushed = await weightcast([...push.split(' ').slice(1), '--verify', 'digest', '--json']);
  expect(JSON.parse(pushed.out)).toMatchObject({
    outcome: 'updated',
    transport: 'nccl',
    delta: { base: model, tensors: 25 },
    engines: [{ proof: { method: 'digest', mismatched: [] } }],
  });
});

test('simulate refuses a vLLM version that it does not know', async () => {
  const ended = await weightcast(['simulate', '--vllm-version', '0.1.0']);
  expect(ended).toMatchObject({ code: 2, out: '', err: expect.stringContaining('0.32.0') });
});

describe('the demo', () => {
  test('pushes twice, shows digests that match and leaves nothing behind', { timeout: LONG }, async () => {
    const ended = await weightcast(['demo', '--small'], { TMPDIR: folder });
    expect(ended.code).toBe(0);
    expect(ended.out).toContain('push step_1 by nccl\nupdated to version 1');
    expect(ended.out).toContain('push step_2 by filesystem\nupdated to version 2');
    expect(ended.out).toContain('EMULATED');
    expect(ended.out).toContain('24 of 24 digests match');
    expect(await processesWith(`TMPDIR=${folder}`)).toEqual([]);
    expect(await readdir(folder)).toEqual([]);
  });

  test.each([
    ['while the engines start', 'wrote   step_0'],
    ['in a push', 'push step_1'],
  ])('leaves nothing behind when it is interrupted %s', { timeout: LONG }, async (_, after) => {
    await using running = new Spawned([MAIN, 'demo', '--small'], { TMPDIR: folder });
    await running.out.seen(after);
    running.signal('SIGINT');
    const ended = await running.ended;
    expect(ended.signal).toBeNull();
    expect([1, 130]).toContain(ended.code);
    expect(await processesWith(`TMPDIR=${folder}`)).toEqual([]);
    expect(await readdir(folder)).toEqual([]);
  });
});

describe('doctor', () => {
  test('finds nothing wrong for a push by files', async () => {
    const { code, out } = await weightcast(['doctor', '-t', 'filesystem', '--json']);
    expect(JSON.parse(out)).toMatchObject({ ok: true, emulator: true, engines: [] });
    expect(code).toBe(0);
  });

  test('says that the addon does not load, and how to build it', async () => {
    const addon = join(folder, 'weightcast.node');
    await writeFile(addon, 'not an addon');
    const { code, out } = await weightcast(['doctor', '--emulate'], { WEIGHTCAST_ADDON: addon });
    expect(code).toBe(1);
    expect(out).toMatch(/wrong {4}addon: .*weightcast\.node does not load[\s\S]*npm run build/);
  });

  test('names libraries that are none', async () => {
    const path = join(folder, 'libcuda.so.1');
    await writeFile(path, 'not a library');
    const { code, out } = await weightcast(['doctor', '--cuda-library', path]);
    expect(code).toBe(1);
    expect(out).toContain(path);
  });
});

test('help is there for every command, with an example', { timeout: LONG }, async () => {
  for (const command of ['push', 'watch', 'publish', 'recover', 'fleet', 'doctor', 'simulate', 'demo']) {
    const { code, out } = await weightcast([command, '--help']);
    expect(code).toBe(0);
    expect(out).toContain(`  weightcast ${command}`);
  }
});

test('an engine that never answers is a timeout of that engine, not an interruption', async () => {
  const silent = createServer().listen(0, '127.0.0.1');
  await once(silent, 'listening');
  const url = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
  try {
    const { code, out } = await weightcast([
      ...['push', await step(1), '-e', url, '-t', 'filesystem', '--timeout-probe', '0.3', '--json'],
    ]);
    expect(code).toBe(1);
    expect(JSON.parse(out).error).toMatchObject({ code: 'WC_ENGINE_TIMEOUT', engine: url });
  } finally {
    silent.close();
  }
});
