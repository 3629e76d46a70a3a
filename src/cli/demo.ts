/** `weightcast demo`: two pushes to reference engines on this machine, by NCCL over the emulator and by files. */
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ReferenceEngine, simulateFleet } from '../testing/index.js';
import type { FleetOptions, UpdateReport } from '../update/types.js';
import type { TensorToWrite } from '../weights/write.js';
import type { CommandContext } from './context.js';
import { byteLengthOf, demoTensors, requireDiskSpace, writeModel } from './demo/checkpoint.js';
import { compareDigests } from './demo/digests.js';
import { count, duration, paint, size } from './format.js';
import { Monitor } from './monitor.js';
import { EXIT } from './outcome.js';
import { connectOrAbort, orInterrupted } from './session.js';
import { renderReport } from './summary.js';
import { temporaryFolder } from './temporary.js';

export interface DemoFlags {
  /** 14 MB instead of 1.2 GB. */
  readonly small?: boolean;
}

const ENGINES = 2;
const WORKERS = 2;
/** One of each kind: fused and sliced by rows, sliced by columns, the same in every worker. */
const SHOWN = [
  'model.layers.0.self_attn.qkv_proj.weight',
  'model.layers.27.mlp.down_proj.weight',
  'model.norm.weight',
];

/** Runs the demo; 0 when both pushes ended with every digest equal, else what went wrong. */
export async function demo(flags: DemoFlags, context: CommandContext): Promise<number> {
  using monitor = new Monitor({ ...context, flags: {} });
  const { signal } = monitor;
  const began = performance.now();
  const say = (text: string) => {
    monitor.ended();
    context.io.out.write(`${text}\n`);
  };
  const tensors = demoTensors(flags.small === true);
  const bytes = byteLengthOf(tensors);
  await requireDiskSpace(tmpdir(), 2.05 * bytes);

  await using folder = await temporaryFolder('weightcast-demo-');
  const at = (step: number) => join(folder.path, `step_${step}`);
  const write = async (step: number) => {
    const since = performance.now();
    await writeModel(at(step), tensors, { seed: step, signal });
    say(`wrote   ${describe(step, tensors, bytes)} in ${duration(performance.now() - since)}`);
  };

  say('This machine plays trainer and engines; CUDA and NCCL are EMULATED in host memory.\n');
  await write(0);
  const since = performance.now();
  await using fleet = await orInterrupted(
    simulateFleet({ engines: ENGINES, workers: WORKERS, model: at(0) }),
    signal,
  );
  const { engines } = fleet;
  const addresses = engines.map(({ url, version }) => `${url} (as vLLM ${version})`).join(', ');
  say(
    `started ${count(ENGINES, 'engine')} of ${WORKERS} workers in ${duration(performance.now() - since)}: ${addresses}`,
  );
  signal.throwIfAborted();

  const push = async (step: number, options: Partial<FleetOptions>) => {
    say(`\n${paint(context.io.out.color, 'bold', `push step_${step} by ${options.transport}`)}`);
    const report = await pushStep(at(step), step, { engines, options, context, monitor });
    say(renderReport(report, context.io.out.color).trimEnd());
    return await showDigests(at(step), engines, say);
  };
  await write(1);
  const first = await push(1, { transport: 'nccl', emulate: true });
  // Room for the next: no engine needs what it loaded at its start.
  await rm(at(0), { recursive: true });
  say('');
  await write(2);
  const second = await push(2, { transport: 'filesystem' });

  const equal = first.equal + second.equal;
  const compared = first.compared + second.compared;
  say(
    `\n${equal} of ${compared} digests match; ${duration(performance.now() - began)} in all. Everything is removed.`,
  );
  return equal === compared ? EXIT.ok : EXIT.failed;
}

function describe(step: number, tensors: readonly TensorToWrite[], bytes: number): string {
  return `step_${step}: ${count(tensors.length, 'tensor')} of Qwen3-0.6B's shape, ${size(bytes)} in 2 shards`;
}

interface PushOptions {
  readonly engines: readonly ReferenceEngine[];
  readonly options: Partial<FleetOptions>;
  readonly context: CommandContext;
  readonly monitor: Monitor;
}

async function pushStep(
  path: string,
  step: number,
  { engines, options, context, monitor }: PushOptions,
): Promise<UpdateReport> {
  const fleet: FleetOptions = {
    engines: engines.map(({ url }) => `vllm=${url}`),
    onEvent: monitor.onEvent,
    ...options,
  };
  const session = await connectOrAbort(context.connect, fleet, monitor.signal);
  try {
    return await session.update(path, { version: String(step), signal: monitor.signal });
  } finally {
    await session.close();
  }
}

/** Prints our digest beside each worker's. */
async function showDigests(path: string, engines: readonly ReferenceEngine[], say: (text: string) => void) {
  let equal = 0;
  let compared = 0;
  say('  SHA-256 of the checkpoint  = of the worker’s memory');
  for (const engine of engines) {
    for (const row of await compareDigests(path, await engine.digests(), SHOWN)) {
      const same = row.ours === row.theirs;
      compared += 1;
      equal += same ? 1 : 0;
      const sides = `${row.ours.slice(0, 24)}… ${same ? '=' : '≠'} ${row.theirs.slice(0, 24)}…`;
      say(`  ${sides}  :${engine.port} worker ${row.worker}  ${row.parameter} (${row.form})`);
    }
  }
  return { equal, compared };
}
