/** `weightcast simulate` of each backend, and the push that it prints. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { UpdateReport } from '../../src/update/types.js';
import { MAIN, Spawned, weightcast } from './spawned.js';

let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weightcast-simulate-'));
});
afterEach(() => rm(folder, { recursive: true }));

test.each([
  ['prime-rl', [], 'nccl', 'prime-rl'],
  ['prime-rl', ['--broadcast', 'filesystem'], 'filesystem', 'prime-rl'],
  ['dynamo', [], 'nccl', 'dynamo'],
])(
  'engines of the kind %s %j are reached by the push that is printed',
  async (backend, more, transport, name) => {
    const args = ['simulate', '--backend', backend, '--engines', '2', '--workers', '2', ...more, '--json'];
    await using simulation = new Spawned([MAIN, ...args], { TMPDIR: folder });
    await simulation.out.seen('\n');
    const { push } = JSON.parse(simulation.out.text) as { push: string };
    const words = [...push.split(' ').slice(1), '--weight-version', '1', '--json'];
    const pushed = await weightcast([...words, '--state-dir', join(folder, 'state')]);
    expect(pushed.code, pushed.err).toBe(0);
    const report = JSON.parse(pushed.out) as UpdateReport;
    expect(report).toMatchObject({ outcome: 'updated', transport });
    expect(report.engines.map((engine) => [engine.backend, engine.workers])).toEqual([
      [name, 2],
      [name, 2],
    ]);
    simulation.signal('SIGINT');
    expect(await simulation.ended).toMatchObject({ code: 0, signal: null });
  },
  120_000,
);

test.each([
  [['--backend', 'dynamo', '--vllm-version', '0.32.0'], '--vllm-version is for --backend vllm'],
  [['--broadcast', 'nccl'], '--broadcast is for --backend prime-rl'],
  [['--backend', 'sglang'], 'prime-rl'],
])(
  '%j is wrong usage',
  async (args, words) => {
    const { code, err } = await weightcast(['simulate', ...args]);
    expect([code, err.includes(words)]).toEqual([2, true]);
  },
  60_000,
);
