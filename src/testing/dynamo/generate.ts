/** What the frontend asks of a worker over the request plane: tokens in, tokens and scores out. */
import { promptLogprobs, run } from '../server/completions.js';
import type { Core } from '../server/core.js';
import type { Scored } from '../server/scores.js';
import type { RlWorker } from './rl-worker.js';

export interface GenerateOrder {
  /** Chosen by the frontend, which may cancel it. */
  readonly id: string;
  readonly model: string;
  readonly prompt: readonly number[];
  readonly maxTokens: number;
  /** null: no scores of the prompt. */
  readonly promptLogprobs: number | null;
  readonly cacheSalt: string;
}

export interface GenerateAnswer {
  readonly tokens: readonly Scored[];
  readonly promptLogprobs: unknown;
  /** A pause by abort, or the caller, cut it short: nobody who reads the frontend's answer can tell. */
  readonly cut: boolean;
}

export class RequestPlane {
  readonly #core: Core;
  readonly #worker: RlWorker;
  readonly #running = new Map<string, AbortController>();

  constructor(core: Core, worker: RlWorker) {
    this.#core = core;
    this.#worker = worker;
  }

  async generate(order: GenerateOrder): Promise<GenerateAnswer> {
    const gone = new AbortController();
    this.#running.set(order.id, gone);
    const asked = { ...order, logprobs: null, returnTokenIds: false, returnWeightVersions: false };
    try {
      const { completion, reason } = await this.#worker.whileBusy(order.model, () =>
        run(this.#core, asked, gone.signal),
      );
      return {
        tokens: completion.tokens,
        promptLogprobs: promptLogprobs(this.#core, asked, completion.prompt),
        cut: reason === 'abort',
      };
    } finally {
      this.#running.delete(order.id);
    }
  }

  cancel(id: string): void {
    this.#running.get(id)?.abort();
  }
}
