/**
 * What the simulator drives: anything that can push weights to engines over their HTTP routes.
 *
 * To put other logic under the same faults, write a {@link CoordinatorFactory} and hand it to `runScenario` (runner.ts), or name its module to the command
 * line: `npm run test:faults -- --coordinator ./bench/peers/fault-logic/prime-rl.ts` imports its default export. The engines' URLs are those of proxies
 * that inject the faults; the engines behind them are stock vLLM as `weightcast/testing` has it. A coordinator makes its own claims about what each engine
 * serves after a push; the simulator asks the engines themselves and judges both.
 *
 * @example
 * ```ts
 * const factory: CoordinatorFactory = ({ engines, settings }) => ({
 *   name: 'one that only pauses',
 *   async push({ checkpoint, weightVersion, signal }) {
 *     for (const url of engines) await fetch(`${url}/pause`, { method: 'POST', signal });
 *     return { ok: true, claims: new Map(engines.map((url) => [url, 'new'])), error: null, report: null };
 *   },
 *   close: async () => undefined,
 * });
 * export default factory;
 * ```
 */
import type { UpdateReport } from '../../src/update/types.js';
import type { Scenario } from './scenario.js';
import type { Source } from './source.js';

/** How the user set it up. A coordinator that has no such setting ignores it. */
export type PushSettings = Pick<
  Scenario,
  'transport' | 'fallback' | 'verify' | 'pauseMode' | 'clearCache' | 'packed' | 'timeouts'
> & {
  /** A directory with a version that may heal engines; null: none. */
  readonly recover: string | null;
  /** Bytes after which a packed chunk closes. */
  readonly packedBufferBytes: number;
  /** Where pushes find one another; an empty folder of this run. */
  readonly stateDir: string;
  /** A process beside the coordinator's own; default none. */
  readonly guardian?: boolean;
};

export interface CoordinatorSetup {
  /** URLs, without a trailing slash. */
  readonly engines: readonly string[];
  /** The same engines as `weightcast --engine` takes them; other coordinators are only given stock vLLM. */
  readonly names: readonly string[];
  readonly settings: PushSettings;
  /** Who names the engines, where they are not listed. */
  readonly source?: Source | null;
  /** For the process of a coordinator that is one: the emulator's fault switches. */
  readonly environment: Readonly<Record<string, string>>;
}

export interface PushJob {
  /** A directory that the engines can load too. */
  readonly checkpoint: string;
  readonly weightVersion: string;
  /** The user's interruption. */
  readonly signal: AbortSignal;
}

/**
 * What a coordinator says of an engine.
 * new: it serves the version of this push · old: it serves an older one · untouched: it was asked for nothing that changes it · excluded: it must get no
 * requests · unknown: nothing is said of it
 */
export type Claim = 'new' | 'old' | 'untouched' | 'excluded' | 'unknown';

export interface Outcome {
  /** Every engine serves the new version, says the coordinator. */
  readonly ok: boolean;
  /** By URL; one that is not in it is 'unknown'. */
  readonly claims: ReadonlyMap<string, Claim>;
  /** What it told its user when it was not ok. */
  readonly error: { readonly code: string; readonly message: string } | null;
  /** weightcast's own; null for others. */
  readonly report: UpdateReport | null;
}

/** Thrown by `push` when the process that pushed is gone. */
export class CoordinatorKilled extends Error {}

export interface Coordinator {
  readonly name: string;
  /** One attempt to bring every engine to a checkpoint. Rejects with CoordinatorKilled, and with nothing else. */
  push(job: PushJob): Promise<Outcome>;
  /** Resolves when nothing goes on that a push has begun: newcomers are brought to its version. */
  settled?(): Promise<void>;
  /** Kills its process, if it is one. */
  kill?(): void;
  close(): Promise<void>;
}

export type CoordinatorFactory = (setup: CoordinatorSetup) => Coordinator;
