/** `weightcast send`: the trainer's rank 0 beside a prime-rl orchestrator; no engine is asked anything. */
import { realpath } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Settings } from '../config.js';
import { hasCode, WeightcastError } from '../errors.js';
import type { PrimeRlSender, SendEvent, SendReport } from '../operations/sender.js';
import type { MarkerGeneration } from '../transports/filesystem/prime-rl/index.js';
import type { CommandContext } from './context.js';
import { count, duration, paint, rate, size } from './format.js';
import { Monitor } from './monitor.js';
import { type FleetFlags, resolveSettings } from './options.js';
import { EXIT, exitCodeOfError } from './outcome.js';
import { EMULATED } from './summary.js';
import { patientLook } from './watch/listing.js';
import { NOTHING_PUSHED, planPush, type WatchState } from './watch/planner.js';

export interface SendFlags extends FleetFlags {
  readonly broadcasts: string;
  readonly inferenceWorldSize?: number;
  readonly weightVersion?: string;
  readonly markers?: MarkerGeneration;
  /** Seconds. */
  readonly timeoutAnswer?: number;
  readonly watch?: boolean;
  readonly maxUpdates?: number;
}

const DEFAULT_INTERVAL_SECONDS = 1;

/** 0 when the (last) version has left; 1 when it was not sent, and no engine waits for it; 3 when engines may hold part of it; 130. */
export async function send(weights: string, flags: SendFlags, context: CommandContext): Promise<number> {
  const settings = await resolveSettings(flags);
  const version = flags.watch === true ? null : versionOf(weights, settings);
  if (flags.watch === true) await requireOtherFolder(weights, flags.broadcasts);
  using monitor = new Monitor({ ...context, flags });
  const { openPrimeRlSender } = await import('../operations/sender.js');
  await using sender = await openPrimeRlSender(senderOptions(settings, flags, monitor));
  monitor.ended();
  const round: Round = { sender, flags, context, monitor };
  return version === null ? await sendEach(weights, settings, round) : await sendOne(weights, version, round);
}

interface Round {
  readonly sender: PrimeRlSender;
  readonly flags: SendFlags;
  readonly context: CommandContext;
  readonly monitor: Monitor;
}

function senderOptions(settings: Settings, flags: SendFlags, monitor: Monitor) {
  const { master_address: host = '127.0.0.1', master_port: port = 29_501, timeouts = {} } = settings;
  const inferenceWorldSize = flags.inferenceWorldSize ?? workersOf(settings);
  const ms = (seconds: number | undefined) => (seconds === undefined ? undefined : Math.ceil(seconds * 1000));
  const given = {
    joinTimeoutMs: ms(timeouts.rendezvous),
    answerTimeoutMs: ms(flags.timeoutAnswer),
    updateTimeoutMs: ms(timeouts.update),
    generation: flags.markers,
    packedBufferBytes: settings.packed === false ? null : settings.packed_buffer_bytes,
    device: settings.device,
    emulate: settings.emulate,
    cudaLibrary: settings.cuda_library,
    ncclLibrary: settings.nccl_library,
  };
  return {
    ...(Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as Partial<
      Defined<typeof given>
    >),
    ...{ broadcasts: resolve(flags.broadcasts), inferenceWorldSize, host, port, signal: monitor.signal },
    onListening: (at: number) => {
      monitor.onEvent({ kind: 'phase', phase: 'rendezvous' });
      if (flags.quiet === true) return;
      monitor.say(`rank 0 listens on ${host}:${at} for ${count(inferenceWorldSize, 'worker')}`);
    },
  };
}

type Defined<T> = { [K in keyof T]: Exclude<T[K], undefined> };

/** As the engines of the file count them. */
function workersOf({ engine: engines = [] }: Settings): number {
  const said = engines.map(({ workers }) => workers);
  if (said.length > 0 && said.every((workers) => workers !== undefined)) {
    return said.reduce<number>((sum, workers) => sum + (workers ?? 0), 0);
  }
  throw new WeightcastError(
    'WC_CONFIG_INVALID',
    'how many GPU workers will join is not said: pass --inference-world-size N',
    {
      remedy: "It is prime-rl's inference_world_size: the GPU workers of all engines, without the trainer.",
    },
  );
}

/** prime-rl's versions are numbers. */
function versionOf(weights: string, { weight_version: said }: Settings): number {
  const text = said ?? /^step_(\d{1,15})$/.exec(basename(resolve(weights)))?.[1];
  if (text !== undefined && /^\d{1,15}$/.test(text)) return Number(text);
  throw new WeightcastError(
    'WC_CONFIG_INVALID',
    said === undefined
      ? `${weights} is not named step_<n>: pass --weight-version N`
      : `--weight-version ${said}: prime-rl counts versions, so it must be a whole number`,
  );
}

/** In one folder the announcement of a version would be taken for its weights, and those of the trainer for an announcement. */
async function requireOtherFolder(weights: string, broadcasts: string): Promise<void> {
  const [one, other] = await Promise.all(
    [weights, broadcasts].map((path) => realpath(path).catch(() => resolve(path))),
  );
  if (one !== other) return;
  throw new WeightcastError(
    'WC_CONFIG_INVALID',
    `--watch ${weights} is the broadcasts folder itself: the STABLE of weights and that of an announcement would be one`,
    { remedy: 'Let the trainer write its checkpoints into another folder.' },
  );
}

async function sendEach(directory: string, settings: Settings, round: Round): Promise<number> {
  const { flags, monitor } = round;
  const { signal } = monitor;
  const intervalMs = (settings.interval ?? DEFAULT_INTERVAL_SECONDS) * 1000;
  const look = patientLook((text) => monitor.say(text));
  let state: WatchState = NOTHING_PUSHED;
  let code: number | null = null;
  for (let sent = 0; !signal.aborted && sent < (flags.maxUpdates ?? Number.POSITIVE_INFINITY); ) {
    const listing = await look(directory, state.last?.kind === 'step' ? state.last.step : null);
    const plan = planPush({ ...listing, checkpoint: null }, state);
    state = plan.state;
    if (plan.push?.kind !== 'step') {
      await sleep(intervalMs, undefined, { signal }).catch(() => {});
      continue;
    }
    try {
      code = await sendOne(plan.push.path, plan.push.step, round);
    } catch (error) {
      if (hasCode(error, 'WC_UPDATE_QUARANTINED') || hasCode(error, 'WC_NCCL_ABORTED')) throw error;
      if (signal.aborted && code !== null) break;
      code = exitCodeOfError(error, signal.aborted);
      round.monitor.failed(error, { version: plan.push.step });
    }
    sent += 1;
  }
  return code ?? EXIT.interrupted;
}

async function sendOne(weights: string, version: number, round: Round): Promise<number> {
  const { sender, monitor } = round;
  const onEvent = (event: SendEvent) => show(event, monitor);
  monitor.onEvent({ kind: 'phase', phase: 'preflight' });
  try {
    print(await sender.send(weights, version, { signal: monitor.signal, onEvent }), weights, round);
    return EXIT.ok;
  } finally {
    monitor.ended();
  }
}

/** The wait for the orchestrator counts as the pause: engines may be paused from the announcement on. */
function show(event: SendEvent, monitor: Monitor): void {
  if (event.kind === 'announced') monitor.onEvent({ kind: 'phase', phase: 'pause' });
  if (event.kind === 'waiting') {
    monitor.onEvent({
      kind: 'note',
      text: `no orchestrator has answered for ${duration(event.elapsedMs)}`,
    });
  }
  if (event.kind === 'progress') monitor.onEvent({ ...event, phase: 'transfer' });
}

function print(
  report: SendReport,
  weights: string,
  { sender, flags, context: { io }, monitor }: Round,
): void {
  const { emulated } = sender.runtime;
  monitor.ended();
  if (flags.json === true) {
    io.out.write(`${JSON.stringify({ ...report, weights: resolve(weights), emulated })}\n`);
    return;
  }
  if (flags.quiet === true) return;
  const { version, tensors, bytes, elapsedMs, bytesPerSecond, waitedMs, generation } = report;
  const how = `${count(tensors, 'tensor')}, ${size(bytes)} in ${duration(elapsedMs)}, ${rate(bytesPerSecond)}`;
  const who = `the orchestrator (${generation} markers) had its engines paused after ${duration(waitedMs)}`;
  io.out.write(`${paint(io.out.color, 'green', 'sent')} version ${version}: ${how}; ${who}\n`);
  if (emulated) io.out.write(`${paint(io.out.color, 'yellow', EMULATED)}\n`);
}
