/** One run, as plain data: what a seed means. */
import type { VllmVersion } from '../../src/testing/index.js';
import type { UpdateTimeouts } from '../../src/update/types.js';
import type { FaultKind, FaultPhase } from './catalogue.js';
import type { Finding } from './source.js';

/** Checkpoints of one shape; engines start with the first. */
export const VERSIONS = ['a', 'b', 'c', 'd', 'e'] as const;
export type Version = (typeof VERSIONS)[number];

/** What an engine is. */
export type Backend = 'vllm' | 'prime-rl' | 'dynamo';

/** Engines of one kind, or of several side by side. */
export const FLEETS = ['vllm', 'prime-rl', 'dynamo', 'mixed'] as const;
export type Fleet = (typeof FLEETS)[number];

export interface Fault {
  readonly kind: FaultKind;
  readonly phase: FaultPhase;
  /** Index of the engine that it strikes. */
  readonly engine: number;
  /** The engine does what it was asked, and only the answer is wrong; for answers that don't say it by their kind. */
  readonly applied: boolean;
  /** When a late request reaches the engine: soon after the client gave up, after the engine's next request, or after the push. */
  readonly arrives: 'soon' | 'after-next' | 'after-push';
  /** Strikes after the request was answered, not before it is passed on; for processes and disks. */
  readonly afterwards: boolean;
  /** A fault of a connection passes after one request; else it stays to the end of the update. */
  readonly once: boolean;
  /** A number in [0, 1) for whatever else has to be chosen. */
  readonly chance: number;
}

export interface Step {
  readonly version: Version;
  readonly faults: readonly Fault[];
}

export interface Scenario {
  readonly seed: number;
  readonly engines: number;
  /** One for each engine. */
  readonly backends: readonly Backend[];
  /** How they are found; null: they are listed. */
  readonly found: Finding | null;
  readonly workers: number;
  readonly vllm: VllmVersion;
  /** Layers of the model: 2 fit into what the emulated NCCL buffers, 60 don't, so rank 0 is not done before the receivers are. */
  readonly layers: 2 | 60;
  readonly transport: 'nccl' | 'filesystem';
  readonly fallback: 'filesystem' | 'none';
  /** Whether the engines' first version may heal them. */
  readonly recover: boolean;
  readonly verify: 'digest' | 'fingerprint' | 'none' | 'auto';
  readonly pauseMode: 'keep' | 'wait' | 'abort';
  readonly clearCache: boolean;
  readonly packed: boolean;
  readonly timeouts: UpdateTimeouts;
  /** Pushes with one session, in order. */
  readonly steps: readonly Step[];
}

/** Whether the coordinator must be a process of its own: it is killed, or its own libraries fail. */
export function needsProcess({ steps }: Scenario): boolean {
  const kinds: readonly FaultKind[] = [
    'coordinator-killed',
    'dead-root',
    'no-driver',
    'no-device',
    'out-of-memory',
    'group-depth-leak',
  ];
  return steps.some(({ faults }) => faults.some(({ kind }) => kinds.includes(kind)));
}
