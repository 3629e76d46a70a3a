/** The broadcast to the engines of one wire format, and what they answer. */
import { setMaxListeners } from 'node:events';
import type { WeightsUpdate, WireFormat } from '../engines/admin.js';
import { asWeightcastError, WeightcastError } from '../errors.js';
import type { EngineLink } from '../fleet/engine.js';
import type { NativeCommunicator, NativeTransfer, NativeTransferStats } from '../native.js';
import type { Attempt } from './attempt.js';
import { ANSWER_MS, type Clock } from './clock.js';
import { type PostOutcome, postOutcome } from './restore.js';

/** After a failure the other engines' receives end by the abort of the communicator: so long they get to say so. */
const SETTLE_MS = 10_000;

/** One wire format of an update, staged. */
export interface LaneTransfer {
  readonly wire: WireFormat;
  readonly engines: readonly EngineLink[];
  readonly communicator: NativeCommunicator;
  readonly transfer: NativeTransfer;
  /** What an engine is asked to receive. */
  readonly updateFor: (engine: EngineLink) => WeightsUpdate;
  readonly totalBytes: number;
  /** Number of broadcasts. */
  readonly frames: number;
  /** True when these very engine processes have accepted this very list in this session. */
  readonly accepted: boolean;
  readonly onAccepted: () => void;
}

export interface LaneRunOptions {
  readonly lane: LaneTransfer;
  readonly clock: Clock;
  /** An engine has refused, or has not received what the others have: told before this lane is given up. */
  readonly onFailure: () => void;
  readonly onProgress: (bytes: number) => void;
}

/** Asks engines to receive, broadcasts, and waits for their answers; `fail` ends it at any time. */
export class LaneRun {
  readonly lane: LaneTransfer;
  /** How each engine answered the request to receive. */
  readonly posts = new Map<string, PostOutcome>();
  /** null when the broadcast did not run to its end. */
  stats: NativeTransferStats | null = null;
  readonly #attempt: Attempt;
  readonly #options: LaneRunOptions;
  readonly #giveUp = new AbortController();
  readonly #answers: Promise<void>[] = [];
  #settle: NodeJS.Timeout | undefined;
  #failing = false;

  constructor(attempt: Attempt, options: LaneRunOptions) {
    this.#attempt = attempt;
    this.#options = options;
    this.lane = options.lane;
    setMaxListeners(0, this.#giveUp.signal);
    for (const { id } of this.lane.engines) this.posts.set(id, 'not-sent');
  }

  get failing(): boolean {
    return this.#failing;
  }

  /** Nothing was broadcast: no engine can have received anything. */
  get untouched(): boolean {
    return this.stats === null && this.lane.transfer.framesIssued === 0;
  }

  /**
   * Whether this engine holds all of it. In a lane that fails a 200 that may come before the last bytes proves nothing: the communicator that they come by is
   * being aborted.
   */
  receivedAll({ id, admin }: EngineLink): boolean {
    if (this.stats === null || this.posts.get(id) !== 'received') return false;
    return !this.#failing || !admin.capabilities.updateAnswersEarly;
  }

  /** Asks these engines to receive; their answers are awaited by {@link end}. */
  ask(engines: readonly EngineLink[]): void {
    for (const engine of engines) this.#answers.push(this.#ask(engine));
  }

  async #ask(engine: EngineLink): Promise<void> {
    const { ledger, signal } = this.#attempt;
    const { transfer, frames, totalBytes, updateFor } = this.lane;
    ledger.set(engine.id, 'receiving');
    this.posts.set(engine.id, 'unknown');
    try {
      await engine.call(engine.admin.updateWeights(updateFor(engine)), {
        signal: this.#giveUp.signal,
        // Rank 0 knows first: its deadline ends the group, and the engine then gets so long to answer for itself.
        timeoutMs: this.#options.clock.left() + ANSWER_MS,
      });
      // A delta in which nothing changed has no bytes to wait for.
      const early = transfer.framesIssued < frames && totalBytes > 0;
      if (early && !engine.admin.capabilities.updateAnswersEarly) throw deafEngine(engine);
      this.posts.set(engine.id, 'received');
    } catch (error) {
      this.posts.set(engine.id, postOutcome(error));
      if (!signal.aborted) {
        ledger.fail(
          engine.id,
          asWeightcastError(error, 'WC_ENGINE_HTTP', { engine: engine.id, phase: 'transfer' }),
        );
      }
      this.#options.onFailure();
    }
  }

  /** Broadcasts everything, in so many milliseconds; never rejects. */
  async send(timeoutMs: number): Promise<void> {
    const { ledger, signal } = this.#attempt;
    const { transfer, engines, totalBytes } = this.lane;
    const { onProgress } = this.#options;
    if (this.#failing) return;
    try {
      this.stats = await transfer.run(timeoutMs, ({ bytesSent }) => {
        if (bytesSent < totalBytes) onProgress(bytesSent);
      });
      // Once they have left, not when the last was issued: from now on nothing can be called off.
      onProgress(totalBytes);
      this.#limitAnswers();
    } catch (error) {
      const cause = asWeightcastError(error, 'WC_NCCL_FAILED', { phase: 'transfer' });
      for (const engine of engines) {
        if (!signal.aborted && this.posts.get(engine.id) !== 'received') ledger.fail(engine.id, cause);
      }
      this.#options.onFailure();
    }
  }

  #limitAnswers(): void {
    if (this.#failing) return;
    const timeoutMs = this.#options.clock.toAnswer();
    const late = new WeightcastError(
      'WC_ENGINE_TIMEOUT',
      `no answer ${Math.round(timeoutMs)} ms after everything was sent`,
      {
        phase: 'transfer',
      },
    );
    this.#settle = setTimeout(() => this.#giveUp.abort(late), timeoutMs);
  }

  /** Gives it up: receives that run end by the abort, and engines get a while to say so. */
  fail(): void {
    if (this.#failing) return;
    this.#failing = true;
    // Once everything is sent the others may still be loading it: the group has nothing left to abort.
    if (this.stats === null) void this.lane.communicator.abort().catch(() => undefined);
    clearTimeout(this.#settle);
    const { clock } = this.#options;
    // Those that answered still have to be finished; where nothing was sent, what comes after the deadline is left to restoring.
    const untilMs = this.stats === null ? clock.left() : clock.toAnswer();
    const graceMs = this.stats === null && this.lane.transfer.framesIssued > 0 ? ANSWER_MS : 0;
    this.#settle = setTimeout(() => this.#giveUp.abort(), Math.min(SETTLE_MS, untilMs) + graceMs);
  }

  /** Resolves when every engine that was asked has answered, or had its time. */
  async end(): Promise<void> {
    await Promise.all(this.#answers);
    clearTimeout(this.#settle);
    // An engine that left a receive half-way is out of step with the others for good: the next update needs a new group.
    if (this.#failing) await this.lane.communicator.abort().catch(() => undefined);
    else this.lane.onAccepted();
  }
}

/** A communicator may be disabled silently (no libnccl, a world of one): such an engine answers 200 without having received anything. */
function deafEngine(engine: EngineLink): WeightcastError {
  return new WeightcastError(
    'WC_ENGINE_PROTOCOL',
    'it says that it received the weights before they were sent: its communicator is disabled',
    {
      engine: engine.id,
      phase: 'transfer',
      remedy:
        'Check that the server loads libnccl (VLLM_NCCL_SO_PATH) and that VLLM_DISABLE_PYNCCL is not set.',
    },
  );
}
