/** `weightcast simulate`: reference engines on CPU that stay up until Ctrl-C. */
import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { WeightcastError } from '../errors.js';
import { type ReferenceEngine, type SimulateOptions, writeTinyModel } from '../testing/index.js';
import { openCheckpoint } from '../weights/checkpoint.js';
import type { CommandContext } from './context.js';
import { count } from './format.js';
import { Monitor } from './monitor.js';
import { EXIT } from './outcome.js';
import { orInterrupted } from './session.js';
import {
  type Broadcast,
  type Order,
  type Simulation,
  startSimulation,
  type WeightTransfer,
} from './simulate/backends.js';
import { temporaryFolder } from './temporary.js';

export interface SimulateFlags {
  readonly backend?: Order['backend'];
  readonly engines?: number;
  readonly workers?: number;
  readonly vllmVersion?: string;
  readonly broadcast?: Broadcast;
  readonly weightTransfer?: WeightTransfer;
  readonly model?: string;
  readonly port?: number;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

const MOST_PROCESSES = 64;
const LAST_PORT = 65_535;

/** Checked where the engines are started. */
type Version = NonNullable<SimulateOptions['version']>;

/** Runs until a signal (0), or until every engine has died (1). */
export async function simulate(flags: SimulateFlags, context: CommandContext): Promise<number> {
  const engineCount = flags.engines ?? 1;
  const workers = flags.workers ?? 1;
  if (engineCount * workers > MOST_PROCESSES) {
    const message = `--engines ${engineCount} with --workers ${workers} each are more than ${MOST_PROCESSES} processes`;
    throw new WeightcastError('WC_CONFIG_INVALID', message, { remedy: 'Pass fewer of one or the other.' });
  }
  if ((flags.port ?? 0) + engineCount - 1 > LAST_PORT) {
    const message = `--port ${flags.port}: the ports of ${count(engineCount, 'engine')} would go beyond ${LAST_PORT}`;
    throw new WeightcastError('WC_CONFIG_INVALID', message, { remedy: 'Pass a lower --port.' });
  }
  // Asked here: each engine would say it in its own words.
  if (flags.model !== undefined) await openCheckpoint(flags.model);
  using monitor = new Monitor({ ...context, flags });
  const { signal } = monitor;
  await using folder = await temporaryFolder('weightcast-simulate-');
  const model = flags.model ?? join(folder.path, 'step_0');
  const { weightTransfer } = flags;
  // Something to push at once: other weights of the same shapes.
  const next = flags.model ?? join(folder.path, 'step_1');
  if (flags.model === undefined) {
    await writeTinyModel(model);
    if (weightTransfer === 'sparse_nccl') await writeNextStep(model, next);
    else await writeTinyModel(next, { seed: 1 });
  }
  const starting = startSimulation({
    ...{ backend: flags.backend ?? 'vllm', engines: engineCount, workers, model, port: flags.port ?? 0 },
    version: flags.vllmVersion as Version | undefined,
    ...{ broadcast: flags.broadcast, weightTransfer },
  });
  await using fleet = await orInterrupted(starting, signal);
  announce(fleet, { model, next, flags, context });
  return (await runUntilEnd(fleet.engines, signal, (text) => monitor.say(text))) ? EXIT.ok : EXIT.failed;
}

/** What a step of training makes of a tiny model: another lowest bit in one of a hundred elements. */
async function writeNextStep(model: string, next: string): Promise<void> {
  await cp(model, next, { recursive: true });
  const { files, tensors } = await openCheckpoint(next);
  const path = files[0]?.path as string;
  const bytes = await readFile(path);
  for (const { range } of tensors) {
    if (range.kind !== 'file') continue;
    const end = range.offset + range.byteLength;
    for (let at = range.offset; at < end; at += 200) bytes[at] = (bytes[at] as number) ^ 1;
  }
  await writeFile(path, bytes);
}

interface Announcement {
  readonly model: string;
  readonly next: string;
  readonly flags: SimulateFlags;
  readonly context: CommandContext;
}

function announce(
  { engines, words, what, places }: Simulation,
  { model, next, flags, context: { io } }: Announcement,
): void {
  const push = ['weightcast push', next, ...words, '--emulate'].join(' ');
  if (flags.json === true) {
    const facts = engines.map(({ url, version, pid, workers }) => ({ url, version, pid, workers }));
    io.out.write(`${JSON.stringify({ engines: facts, ...places, model, push })}\n`);
    return;
  }
  for (const { url, workers } of engines) {
    io.out.write(`${url}  as ${what}, ${count(workers.length, 'worker')}, emulated\n`);
  }
  for (const [name, url] of Object.entries(places)) io.out.write(`${url}  as its ${name}\n`);
  if (flags.quiet !== true)
    io.out.write(`\nTry, in another terminal:\n  ${push}\n\nCtrl-C ends the engines.\n`);
}

/** True when a signal ended it; false when the last engine died by itself, as vLLM does after an unfinished update. */
async function runUntilEnd(
  engines: readonly ReferenceEngine[],
  signal: AbortSignal,
  say: (text: string) => void,
): Promise<boolean> {
  const deaths = engines.map(async (engine) => {
    const { code, signal: killedBy } = await engine.exited;
    if (!signal.aborted) say(`${engine.url} died (${killedBy ?? `exit code ${code}`})`);
  });
  const stopped = new Promise<true>((resolve) => {
    if (signal.aborted) resolve(true);
    else signal.addEventListener('abort', () => resolve(true), { once: true });
  });
  return await Promise.race([stopped, Promise.all(deaths).then(() => signal.aborted)]);
}
