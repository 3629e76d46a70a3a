/** One engine, real or a reference, behind a scripted proxy, and what it says of itself. */
import { connectFleet, type FleetSession } from '../../../src/index.js';
import { UpdateError } from '../../../src/update/index.js';
import type { EngineState, UpdateReport } from '../../../src/update/types.js';
import { type ScriptedProxy, scriptedProxy } from '../../update/proxy.js';
import type { FaultRow } from './fault-rows.js';
import { isPaused, SCORE_NOISE, scoreDistance, weightChecker } from './judge.js';
import type { ModelName, Models } from './models.js';

const NAMES: readonly ModelName[] = ['a', 'b', 'c'];

/** What a push came to, by its report, by the requests that left, and by the engine itself. */
export interface Observed {
  readonly outcome: UpdateReport['outcome'];
  readonly state: EngineState | undefined;
  readonly error: string | null;
  readonly phase: string | null;
  readonly posts: readonly string[];
  readonly paused: boolean;
  /** By its own weight checker; null for bytes that are no whole version. */
  readonly holds: ModelName | null;
}

export class FaultTarget {
  readonly url: string;
  readonly proxy: ScriptedProxy;
  readonly #model: string;
  readonly #models: Models;

  private constructor(parts: { url: string; model: string; proxy: ScriptedProxy; models: Models }) {
    this.url = parts.url;
    this.proxy = parts.proxy;
    this.#model = parts.model;
    this.#models = parts.models;
  }

  /** @param engine one worker, that serves one of the models */
  static async open(
    engine: { readonly url: string; readonly model: string },
    models: Models,
  ): Promise<FaultTarget> {
    return new FaultTarget({ ...engine, proxy: await scriptedProxy(engine.url), models });
  }

  get #server() {
    return { url: this.url, model: this.#model, workers: 1 };
  }

  connect(row: Pick<FaultRow, 'clearCache' | 'timeouts'> = {}): Promise<FleetSession> {
    return connectFleet({
      engines: [`vllm=${this.proxy.url}`],
      emulate: true,
      packedBufferBytes: 100_000, // four broadcasts for a model of 430 KB
      clearCache: row.clearCache ?? true,
      timeouts: { update: 20_000, rendezvous: 30_000, ...row.timeouts },
    });
  }

  /** Pushes a directory and looks at the engine; `onEnd` runs in between. */
  async push(session: FleetSession, directory: string, onEnd: () => unknown = () => null): Promise<Observed> {
    const from = this.proxy.posts.length;
    const report = await session.update(directory).catch((error: unknown) => {
      if (error instanceof UpdateError) return error.report;
      throw error;
    });
    await onEnd();
    return {
      outcome: report.outcome,
      state: report.engines[0]?.state,
      error: report.error?.code ?? null,
      phase: report.error?.phase ?? null,
      posts: this.proxy.posts.slice(from),
      paused: await this.paused(),
      holds: await this.holds(),
    };
  }

  paused(): Promise<boolean> {
    return isPaused(this.#server);
  }

  async holds(): Promise<ModelName | null> {
    const sums = await weightChecker(this.#server).catch((error: unknown) => {
      // A layer that was stripped for reloading and not loaded has no bytes.
      if (String(error).includes('Cannot copy out of meta tensor; no data!')) return null;
      throw error;
    });
    if (sums === null) return null;
    const same = (name: ModelName) => {
      const truth = this.#models.truth(name).served[1] as Readonly<Record<string, string>>;
      const keys = Object.keys(truth);
      return keys.length === Object.keys(sums).length && keys.every((key) => truth[key] === sums[key]);
    };
    return NAMES.find(same) ?? null;
  }

  /** True when the log-probabilities that it serves are those that transformers computes for this model. */
  async scores(name: ModelName): Promise<boolean> {
    return (await scoreDistance(this.#server, this.#models, name)) < SCORE_NOISE;
  }

  async close(): Promise<void> {
    await this.proxy[Symbol.asyncDispose]();
  }
}
