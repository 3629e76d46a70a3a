/** /v1/completions: greedy text and prompt log-probabilities that depend on every byte of the weights. */
import { createHash, randomBytes } from 'node:crypto';
import type { Handler } from './admin.js';
import type { Core } from './core.js';
import { type Answer, failure, json } from './replies.js';
import type { Generation } from './scheduler.js';
import { emptyContext, extend, greedy, type Scored, score } from './scores.js';
import {
  invalid,
  isObject,
  type JsonObject,
  jsonProblem,
  parseJson,
  Refusal,
  type Request,
} from './validation.js';

interface Asked {
  readonly model: string;
  readonly prompt: readonly number[];
  readonly maxTokens: number;
  readonly promptLogprobs: number | null;
  readonly logprobs: number | null;
  readonly returnTokenIds: boolean;
  readonly returnWeightVersions: boolean;
  readonly cacheSalt: string;
}

const refuse = (message: string, param: string | null): Refusal =>
  new Refusal(failure(400, 'BadRequestError', message, param));

function parseBody(core: Core, request: Request): JsonObject {
  const parsed = parseJson(request.text);
  if (parsed === null) {
    const { message, offset } = jsonProblem(request.text);
    throw invalid(core.profile, [
      {
        type: 'json_invalid',
        loc: ['body', offset],
        msg: 'JSON decode error',
        input: {},
        ctx: `{'error': '${message}'}`,
      },
    ]);
  }
  return isObject(parsed.value) ? parsed.value : {};
}

function promptOf(core: Core, body: JsonObject): readonly number[] {
  const prompt = body.prompt;
  const tokens =
    typeof prompt === 'string'
      ? [...Buffer.from(prompt)].map((byte) => byte % core.workers.vocabulary)
      : Array.isArray(prompt)
        ? (prompt as unknown[])
        : [];
  if (tokens.length === 0) {
    const text = 'Either prompt or prompt_embeds must be provided and non-empty.';
    if (core.profile.validation === 'sourced') {
      const [error, suffix] = core.profile.namesField
        ? ['VLLMValidationError', ' (parameter=prompt)']
        : ['ValueError', ''];
      throw invalid(core.profile, [
        {
          type: 'value_error',
          loc: ['body'],
          msg: `Value error, ${text}${suffix}`,
          input: body,
          ctx: `{'error': ${error}('${text}')}`,
          param: 'prompt',
        },
      ]);
    }
    throw refuse(`${text} (parameter=prompt)`, 'prompt');
  }
  const bad = tokens.find((token) => !Number.isInteger(token) || (token as number) < 0);
  if (bad !== undefined) {
    throw refuse('prompt must be a string or a list of token ids', 'prompt');
  }
  const outside = tokens.find((token) => (token as number) >= core.workers.vocabulary);
  if (outside !== undefined) {
    throw refuse(`Token id ${String(outside)} is out of vocabulary`, null);
  }
  return tokens as number[];
}

const count = (body: JsonObject, field: string): number | null => {
  const value = body[field];
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 ? value : null;
};

function tooLong(core: Core, prompt: number, output: number): string {
  const limit = core.options.maxModelLen;
  const context = `This model's maximum context length is ${limit} tokens. However,`;
  const shorten = 'Please reduce the length of the input prompt';
  const value = `(parameter=input_tokens, value=${prompt})`;
  if (core.profile.lengthError === 'passed') {
    return `You passed ${prompt} input tokens and requested ${output} output tokens. However, the model's context length is only ${limit} tokens, resulting in a maximum input length of ${limit - output} tokens. ${shorten}. ${value}`;
  }
  if (core.profile.lengthError === 'alone' && prompt > limit) {
    return `${context} your prompt contains ${prompt} input tokens, which exceeds this limit even without any output tokens. ${shorten}. ${value}`;
  }
  return `${context} you requested ${output} output tokens and your prompt contains ${prompt} input tokens, for a total of ${prompt + output} tokens. ${shorten} or the number of requested output tokens. ${value}`;
}

function ask(core: Core, request: Request): Asked {
  const body = parseBody(core, request);
  const model = body.model ?? core.options.servedModelName;
  if (typeof model !== 'string' || (model !== core.options.servedModelName && !core.loras.has(model))) {
    const aliases = core.profile.namesAliases ? ` Valid aliases: ${core.options.servedModelName}.` : '';
    throw new Refusal(
      failure(404, 'NotFoundError', `The model \`${String(model)}\` does not exist.${aliases}`, 'model'),
    );
  }
  const prompt = promptOf(core, body);
  const temperature = body.temperature;
  if (typeof temperature === 'number' && temperature < 0) {
    const shown = Number.isInteger(temperature) ? `${temperature}.0` : String(temperature);
    throw refuse(
      `temperature must be non-negative, got ${shown}. (parameter=temperature, value=${shown})`,
      'temperature',
    );
  }
  const maxTokens = count(body, 'max_tokens') ?? 16;
  if (prompt.length + maxTokens > core.options.maxModelLen) {
    throw refuse(tooLong(core, prompt.length, maxTokens), 'input_tokens');
  }
  return {
    model,
    prompt,
    maxTokens,
    promptLogprobs: count(body, 'prompt_logprobs'),
    logprobs: count(body, 'logprobs'),
    returnTokenIds: body.return_token_ids === true,
    returnWeightVersions: body.return_weight_versions === true,
    cacheSalt: typeof body.cache_salt === 'string' ? body.cache_salt : '',
  };
}

/** One request on the engine core: a prefill, then a token a step. */
class Completion implements Generation {
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
function promptLogprobs(core: Core, asked: Asked, scored: readonly Scored[]): unknown {
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

function weightVersions(versions: readonly string[]): unknown {
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

function answer(core: Core, asked: Asked, run: Completion, reason: 'length' | 'abort'): Answer {
  const completionTokens = run.tokens.length;
  return json({
    id: `cmpl-${randomBytes(8).toString('hex')}`,
    object: 'text_completion',
    created: Math.floor(Date.now() / 1000),
    model: asked.model,
    choices: [
      {
        index: 0,
        text: run.tokens.map((item) => ` ${word(item.token)}`).join(''),
        logprobs: asked.logprobs === null ? null : logprobsOf(run.tokens),
        finish_reason: reason,
        stop_reason: null,
        token_ids: asked.returnTokenIds ? run.tokens.map((item) => item.token) : null,
        prompt_logprobs: promptLogprobs(core, asked, run.prompt),
        prompt_token_ids: asked.returnTokenIds ? asked.prompt : null,
        ...(core.profile.refusesWhilePaused
          ? { weight_versions: asked.returnWeightVersions ? weightVersions(run.versions) : null }
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

export const completions: Handler = async (core, request, signal) => {
  const asked = ask(core, request);
  core.requireAlive();
  const mode = core.scheduler.mode;
  if (core.profile.refusesWhilePaused && (mode === 'abort' || mode === 'wait')) {
    throw new Refusal(
      failure(503, 'ServiceUnavailableError', 'Generation is paused. Please retry after it resumes.'),
    );
  }
  const run = new Completion(core, asked);
  const outcome = await core.scheduler.generate(run, signal);
  core.requireAlive();
  return answer(core, asked, run, outcome === 'done' ? 'length' : 'abort');
};
