import { EventEmitter } from 'node:events';
import type { CommandContext } from '../../src/cli/context.js';
import type { Sink } from '../../src/cli/io.js';
import { run } from '../../src/cli/run.js';
import type { Session } from '../../src/cli/session.js';
import { UpdateError } from '../../src/update/error.js';
import type { EngineReport, FleetOptions, UpdateOptions, UpdateReport } from '../../src/update/index.js';

export function fakeSink(options: { isTerminal?: boolean; columns?: number } = {}) {
  const writes: string[] = [];
  const sink: Sink = {
    isTerminal: options.isTerminal ?? false,
    columns: options.columns ?? 80,
    color: false,
    write: (text) => writes.push(text),
  };
  return { ...sink, writes, text: () => writes.join('') };
}

export type FakeUpdate = (
  weights: string,
  options: UpdateOptions,
  fleet: FleetOptions,
) => Promise<UpdateReport>;

export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  /** What connectFleet got; null when it was not called. */
  readonly fleet: FleetOptions | null;
  readonly updates: readonly { readonly weights: string; readonly version: string | undefined }[];
  readonly closed: number;
}

/** Runs a command line in this process against a session that does what `update` says. */
export async function runWith(
  args: readonly string[],
  update: FakeUpdate = async () => report(),
  env: Record<string, string> = {},
  close: () => Promise<void> = async () => {},
): Promise<Ran> {
  const out = fakeSink();
  const err = fakeSink();
  const updates: { weights: string; version: string | undefined }[] = [];
  let fleet: FleetOptions | null = null;
  let closed = 0;
  const context: CommandContext = {
    io: { out, err, env },
    source: new EventEmitter(),
    exit: (code) => {
      throw new Error(`exit ${code} at once`);
    },
    connect: async (options): Promise<Session> => {
      fleet = options;
      return {
        update: (weights, own) => {
          updates.push({ weights, version: own.version });
          return update(weights, own, options);
        },
        close: () => {
          closed += 1;
          return close();
        },
      };
    },
  };
  const code = await run(args, context);
  return { code, out: out.text(), err: err.text(), fleet, updates, closed };
}

export function engineReport(over: Partial<EngineReport> = {}): EngineReport {
  return {
    id: 'http://10.0.0.5:8000',
    url: 'http://10.0.0.5:8000',
    backend: 'vllm',
    engineVersion: '0.32.0',
    workers: 2,
    state: 'serving-new',
    transport: 'nccl',
    history: [
      { state: 'serving-old', atMs: 4, reason: null },
      { state: 'paused', atMs: 900, reason: null },
      { state: 'serving-new', atMs: 2200, reason: null },
    ],
    pausedMs: 1310,
    weightVersion: '42',
    proof: {
      method: 'digest',
      proved: 620,
      total: 622,
      mismatched: [],
      unprovable: [
        { parameter: 'model.rotary.inv_freq', reason: 'computed by the engine' },
        { parameter: 'model.rotary.cos', reason: 'computed by the engine' },
      ],
      engineMs: 812,
      note: null,
    },
    error: null,
    ...over,
  };
}

export function report(over: Partial<UpdateReport> = {}): UpdateReport {
  return {
    outcome: 'updated',
    version: '42',
    transport: 'nccl',
    emulated: false,
    weights: {
      path: '/checkpoints/step_42',
      tensors: 311,
      bytes: 1_192_135_096,
      files: 2,
      digest: 'ab'.repeat(32),
    },
    engines: [engineReport(), engineReport({ id: 'http://10.0.0.6:8000', url: 'http://10.0.0.6:8000' })],
    phases: [
      { phase: 'preflight', ms: 800 },
      { phase: 'pause', ms: 20 },
      { phase: 'transfer', ms: 1020 },
    ],
    pauseMs: 1320,
    delta: null,
    transfer: {
      transport: 'nccl',
      bytes: 1_192_135_096,
      frames: 5,
      elapsedMs: 1020,
      bytesPerSecond: 1_168_760_878,
      readMs: 510,
      copyMs: 300,
      broadcastMs: 900,
    },
    memory: { device: 536_870_912, pinned: 67_108_864 },
    nccl: { version: 22_803, library: '/usr/lib/libnccl.so.2', worldSize: 5, reused: false, groups: [] },
    notes: [],
    error: null,
    ...over,
  };
}

/** An update that ended as `over` says. */
export function updateError(over: Partial<UpdateReport>): UpdateError {
  const failed = report({ outcome: 'failed', ...over });
  return new UpdateError(
    failed.outcome === 'quarantined' ? 'WC_UPDATE_QUARANTINED' : 'WC_UPDATE_FAILED',
    'the update failed',
    failed,
  );
}
