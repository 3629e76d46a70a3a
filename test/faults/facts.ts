/** What was observed after a push: the engines asked behind the proxies, and what the coordinator said. */
import type { EngineState, RecordedExchange } from '../../src/testing/index.js';
import type { Claim, Outcome } from './coordinator.js';
import type { Scenario, Step, Version } from './scenario.js';

/** 'mixed' is anything but one whole version. */
export type Held = Version | 'mixed';

/** One engine, as it is. */
export interface EngineFacts {
  readonly url: string;
  /** The process lives. */
  readonly alive: boolean;
  /** null when it is not. */
  readonly state: EngineState | null;
  /** Its core does not answer any more. */
  readonly stuck: boolean;
  /** null when it can't be asked. */
  readonly holds: Held | null;
  /** The version by which it answers a request; null when it is paused or does not answer. */
  readonly answersBy: Held | null;
  /** It was killed, or killed and started again, in this push. */
  readonly replaced: 'killed' | 'restarted' | null;
  /** The engine's own record of this push. */
  readonly record: readonly RecordedExchange[];
  /** Requests as the coordinator sent them, by path. */
  readonly sent: ReadonlyMap<string, number>;
}

/** Before a push. */
export interface EngineBefore {
  readonly holds: Held | null;
  readonly paused: boolean;
}

export interface StepFacts {
  readonly scenario: Scenario;
  readonly step: Step;
  /** Index of the push in its run. */
  readonly index: number;
  /** Nothing was made to fail, and files may heal: everybody who lives must come out whole. */
  readonly healing: boolean;
  readonly before: readonly EngineBefore[];
  readonly engines: readonly EngineFacts[];
  /** null when the coordinator was killed. */
  readonly outcome: Outcome | null;
  /** A second coordinator was let in while this one pushed. */
  readonly rivalLetIn: boolean;
  /** Faults that struck, and how often. */
  readonly struck: readonly number[];
  /** Milliseconds from the call to its return, and of these the ones in which this process itself stood still. */
  readonly tookMs: number;
  readonly stalledMs: number;
}

export function claimOf({ outcome }: StepFacts, url: string): Claim {
  return outcome?.claims.get(url) ?? 'unknown';
}
