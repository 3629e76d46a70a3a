/** A peer's logic as a coordinator of the fault simulator (test/faults/coordinator.ts). */
import {
  type Coordinator,
  CoordinatorKilled,
  type CoordinatorSetup,
  type Outcome,
} from '../../../test/faults/coordinator.js';
import { Clock, namedIn, type Pace, type PeerLogic } from './peer.js';
import { primeRl } from './prime-rl.js';
import { vllmTrainer, vllmTrainerPerServer } from './vllm-trainer.js';

/** After so many seconds of the peer's clock without an end an operator kills its processes. */
const OPERATOR_SECONDS = 2700;

export const PEERS = {
  'prime-rl': {
    logic: primeRl,
    // The orchestrator lets an update in flight finish before it ends (WeightWatcher.stop).
    diesOfInterrupt: false,
  },
  'vllm-trainer': { logic: vllmTrainer, diesOfInterrupt: true },
  'vllm-trainer-per-server': { logic: vllmTrainerPerServer, diesOfInterrupt: true },
} as const satisfies Record<string, { readonly logic: PeerLogic; readonly diesOfInterrupt: boolean }>;
export type PeerName = keyof typeof PEERS;

/** One push of a peer, as plain data. */
export interface PeerJob {
  readonly peer: PeerName;
  readonly engines: readonly string[];
  /** Of each engine. */
  readonly workers: number;
  readonly checkpoint: string;
  readonly packedBufferBytes: number;
  readonly pace: Pace;
}

export interface PeerEnd {
  /** Engines that it named as it failed; null when it ended well. */
  readonly named: readonly string[] | null;
  readonly code: 'PEER' | 'HUNG' | null;
  readonly message: string;
}

/** Runs one push to the end of the peer's processes. */
export async function runPeer(job: PeerJob, interrupted: AbortSignal): Promise<PeerEnd> {
  const { logic, diesOfInterrupt } = PEERS[job.peer];
  const clock = new Clock(job.pace);
  const operator = new AbortController();
  const timer = setTimeout(() => operator.abort(), clock.timeout(OPERATOR_SECONDS));
  const { workers, checkpoint, packedBufferBytes } = job;
  try {
    await logic({
      engines: job.engines.map((url) => ({ url, workers })),
      checkpoint,
      packedBufferBytes,
      clock,
      signal: AbortSignal.any([operator.signal, ...(diesOfInterrupt ? [interrupted] : [])]),
    });
    return { named: null, code: null, message: '' };
  } catch (error) {
    const hung = operator.signal.aborted;
    return { named: hung ? [] : namedIn(error), code: hung ? 'HUNG' : 'PEER', message: String(error) };
  } finally {
    clearTimeout(timer);
  }
}

/** In doubt for the peer: an engine that its error names counts as reported. */
export function outcomeOf(engines: readonly string[], end: PeerEnd): Outcome {
  const { named, code, message } = end;
  if (named === null || code === null) {
    return { ok: true, claims: new Map(engines.map((url) => [url, 'new'])), error: null, report: null };
  }
  const claims = new Map(named.map((url) => [url, 'excluded'] as const));
  return { ok: false, claims, error: { code, message }, report: null };
}

export interface PeerOptions {
  readonly peer: PeerName;
  readonly workers: number;
  readonly pace: Pace;
}

/** A peer in this process; for scenarios in which nothing happens to its own process. */
export function peerInProcess(options: PeerOptions, { engines, settings }: CoordinatorSetup): Coordinator {
  return {
    name: options.peer,
    push: async ({ checkpoint, signal }) => {
      const { packedBufferBytes } = settings;
      return outcomeOf(
        engines,
        await runPeer({ ...options, engines, checkpoint, packedBufferBytes }, signal),
      );
    },
    kill: () => {
      throw new CoordinatorKilled('a peer that is killed needs a process of its own');
    },
    close: async () => undefined,
  };
}
