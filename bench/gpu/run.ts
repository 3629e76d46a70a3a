/**
 * npm run bench:gpu [-- case …] [--quick] [--results DIR]
 *
 * Runs the cases that need a GPU, or says SKIPPED and why. WEIGHTCAST_GPU_LANE=emulated runs them over the emulator: that tests the lane, and its numbers
 * say nothing.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { cases } from '../cases/index.js';
import { benchOptions } from '../options.js';
import { openLane } from './lane.js';

const { values, operands } = benchOptions('bench:gpu', 'The cases that need a GPU, or those that are named.');
const lane = await openLane();
if ('skipped' in lane) {
  process.stdout.write(`bench:gpu SKIPPED: ${lane.skipped}\n`);
} else {
  const { facts } = lane;
  process.stdout.write(
    `${facts.device}, CUDA ${facts.cudaVersion}, NCCL ${facts.ncclVersion}${facts.emulated ? ': EMULATED, these numbers say nothing about a GPU' : ''}\n`,
  );
  const named = operands.some((name) => name.startsWith('gpu-'));
  const keep = facts.emulated || values.results !== undefined || values.quick;
  const { status } = spawnSync(
    process.execPath,
    [
      fileURLToPath(new URL('../run.js', import.meta.url)),
      ...process.argv.slice(2),
      ...(named ? [] : Object.keys(cases).filter((name) => name.startsWith('gpu-'))),
      ...(keep ? [] : ['--results', 'bench/results']),
    ],
    { stdio: 'inherit' },
  );
  process.exitCode = status ?? 1;
}
