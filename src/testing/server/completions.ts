/** /v1/completions: greedy text and prompt log-probabilities that depend on every byte of the weights. */
import { createHash, randomBytes } from 'node:crypto';
import type { Handler } from './admin.js';
import { type Asked, ask } from './completion-request.js';
import type { Core } from './core.js';
import { type Answer, failure, json } from './replies.js';
import type { Generation } from './scheduler.js';
import { emptyContext, extend, greedy, type Scored, score } from './scores.js';
import { Refusal } from './validation.js';

/** One request on the engine core: a prefill, then a token a step. */
export class Completion implements Generation {
  readonly prompt: Scored[] = [];
  readonly tokens: Scored[] = [];
  /** Weight version of each token. */
  readonly versions: string[] = [];
  readonly #core: Core;
  readonly #asked: Asked;
  /** Weights that wrote the key-value cache; null before a prefill. */
  #cached: string | null = null;

  constructor(core: Core, asked: Asked) {
    this.#core = core;
    this.#asked = asked;
  }

  preempt(): void {
    this.#cached = null;
  }

  async step(): Promise<boolean> {
    const core = this.#core;
    core.requireAlive();
    // Layers that a reload stripped cannot be run: the real engine core raises and the server exits.
    if (core.session.stripped) {
      core.die();
    }
    const weights = await this.#weights();
    const prefill = this.prompt.length === 0;
    this.#cached ??= core.cachedWeights(this.#key(), weights);
    // A prefix that is cached keeps the scores of the weights that computed it.
    let scoring = emptyContext(this.#cached, this.#cached);
    let context = emptyContext(this.#cached, weights);
    for (const token of this.#asked.prompt) {
      if (prefill) {
        this.prompt.push(score(scoring, token, core.workers.vocabulary));
        scoring = extend(scoring, token);
      }
      context = extend(context, token);
    }
    for (const { token } of this.tokens) {
      context = extend(context, token);
    }
    if (this.tokens.length < this.#asked.maxTokens) {
      this.tokens.push(greedy(context, core.workers.vocabulary));
      this.versions.push(core.weightVersion);
    }
    return this.tokens.length >= this.#asked.maxTokens;
  }

  async #weights(): Promise<string> {
    const fingerprint = await this.#core.workers.fingerprint();
    const adapter = this.#core.loras.get(this.#asked.model);
    return adapter === undefined
      ? fingerprint
      : createHash('sha256').update(`${fingerprint}|${adapter}`).digest('hex');
  }

  #key(): string {
    return JSON.stringify([this.#asked.model, this.#asked.cacheSalt, this.#asked.prompt]);
  }
}

const word = (token: number): string => `w${token}`;

/** [null, {"17": {logprob, rank, decoded_token}}, …]: the token itself and, when asked, the likelier ones. */
export function promptLogprobs(core: Core, asked: Asked, scored: readonly Scored[]): unknown {
  if (asked.promptLogprobs === null) {
    return null;
  }
  return scored.map((item, index) => {
    if (index === 0) {
      return null;
    }
    const entries: [string, unknown][] = [[String(item.token), entry(item)]];
    for (let rank = 1; rank <= (asked.promptLogprobs ?? 0); rank += 1) {
      const token = (item.token + rank * 7) % core.workers.vocabulary;
      if (token !== item.token) {
        entries.push([String(token), entry({ token, logprob: -0.01 * rank, rank })]);
      }
    }
    return Object.fromEntries(entries);
  });
}

const entry = (item: Scored): unknown => ({
  logprob: item.logprob,
  rank: item.rank,
  decoded_token: word(item.token),
});

function logprobsOf(tokens: readonly Scored[]): unknown {
  const words = tokens.map((item) => word(item.token));
  let offset = 0;
  return {
    text_offset: words.map((text) => {
      const at = offset;
      offset += text.length + (at === 0 ? 0 : 1);
      return at;
    }),
    token_logprobs: tokens.map((item) => item.logprob),
    tokens: words,
    top_logprobs: tokens.map((item) => ({ [word(item.token)]: item.logprob })),
  };
}

export function weightVersions(versions: readonly string[]): unknown {
  const spans: { version: string; start: number; end: number }[] = [];
  for (const [index, version] of versions.entries()) {
    const last = spans.at(-1);
    if (last?.version === version) {
      last.end = index + 1;
    } else {
      spans.push({ version, start: index, end: index + 1 });
    }
  }
  return spans;
}

function answer(core: Core, asked: Asked, completion: Completion, reason: 'length' | 'abort'): Answer {
  const completionTokens = completion.tokens.length;
  return json({
    id: `cmpl-${randomBytes(8).toString('hex')}`,
    object: 'text_completion',
    created: Math.floor(Date.now() / 1000),
    model: asked.model,
    choices: [
      {
        index: 0,
        text: completion.tokens.map((item) => ` ${word(item.token)}`).join(''),
        logprobs: asked.logprobs === null ? null : logprobsOf(completion.tokens),
        finish_reason: reason,
        stop_reason: null,
        token_ids: asked.returnTokenIds ? completion.tokens.map((item) => item.token) : null,
        prompt_logprobs: promptLogprobs(core, asked, completion.prompt),
        prompt_token_ids: asked.returnTokenIds ? asked.prompt : null,
        ...(core.profile.refusesWhilePaused
          ? { weight_versions: asked.returnWeightVersions ? weightVersions(completion.versions) : null }
          : {}),
      },
    ],
    service_tier: null,
    system_fingerprint: `vllm-${core.profile.version}-reference`,
    usage: {
      prompt_tokens: asked.prompt.length,
      total_tokens: asked.prompt.length + completionTokens,
      completion_tokens: completionTokens,
      prompt_tokens_details: null,
    },
    kv_transfer_params: null,
  });
}

/** Runs a request to its end, or to the pause that cuts it short. */
export async function run(
  core: Core,
  asked: Asked,
  signal: AbortSignal,
): Promise<{ readonly completion: Completion; readonly reason: 'length' | 'abort' }> {
  core.requireAlive();
  const mode = core.scheduler.mode;
  if (core.profile.refusesWhilePaused && (mode === 'abort' || mode === 'wait')) {
    throw new Refusal(
      failure(503, 'ServiceUnavailableError', 'Generation is paused. Please retry after it resumes.'),
    );
  }
  const completion = new Completion(core, asked);
  const outcome = await core.scheduler.generate(completion, signal);
  core.requireAlive();
  return { completion, reason: outcome === 'done' ? 'length' : 'abort' };
}

export const completions: Handler = async (core, request, signal) => {
  const asked = ask(core, request);
  const { completion, reason } = await run(core, asked, signal);
  return answer(core, asked, completion, reason);
};
