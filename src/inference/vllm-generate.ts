/** vLLM's token-in, token-out route. Served by default up to 0.28; `--enable-scale-out` opens it from 0.30 (contracts/vllm.md). */
import { isRecord } from '../engines/is-record.js';
import { flattenPromptLogprobs } from '../engines/prompt-logprobs.js';
import { field, generatedLogprobs, tokenList, unexpected } from './read.js';
import type { Dialect, GenerateRequest, VersionSpan } from './types.js';

export const vllmGenerate: Dialect = {
  path: '/inference/v1/generate',

  generateBody: (request, salt) => ({
    model: request.model,
    token_ids: request.tokens,
    sampling_params: {
      ...request.sampling,
      max_tokens: request.maxTokens,
      temperature: request.temperature ?? 1,
      top_p: request.topP ?? 1,
      ...(request.logprobs === true ? { logprobs: 1 } : {}),
    },
    ...salted(salt),
  }),

  // As prime-rl's prefill_logprobs sends it.
  scoreBody: ({ model, tokens }, salt) => ({
    model,
    token_ids: tokens,
    sampling_params: { max_tokens: 1, temperature: 1, top_p: 1, prompt_logprobs: 1 },
    ...salted(salt),
  }),

  readGeneration(json, request) {
    const choice = firstChoice(json);
    const tokens = tokenList(field(choice, 'token_ids'), 'choices[0].token_ids');
    return {
      tokens,
      logprobs: logprobsOf(choice, tokens, request),
      finishReason: reasonOf(choice),
      weightVersions: versionsOf(field(choice, 'weight_versions'), tokens.length),
    };
  },

  readScores: (json, tokens) => flattenPromptLogprobs(tokens, field(json, 'prompt_logprobs')),
};

/** An empty salt is a 400 from vLLM 0.28 on; without one the key is left out. */
function salted(salt: string | null): object {
  return salt === null ? {} : { cache_salt: salt };
}

export function firstChoice(json: unknown): unknown {
  const choices = field(json, 'choices');
  if (!Array.isArray(choices) || choices.length === 0) throw unexpected('no choice');
  return choices[0];
}

export function reasonOf(choice: unknown): string | null {
  const reason = field(choice, 'finish_reason');
  return typeof reason === 'string' ? reason.slice(0, 64) : null;
}

function logprobsOf(
  choice: unknown,
  tokens: readonly number[],
  request: GenerateRequest,
): readonly number[] | null {
  return request.logprobs === true ? generatedLogprobs(field(choice, 'logprobs'), tokens) : null;
}

function versionsOf(value: unknown, tokens: number): readonly VersionSpan[] | null {
  if (!Array.isArray(value)) return null;
  return value.map((span) => {
    if (!isRecord(span) || typeof span.version !== 'string') throw unexpected('a span without a version');
    const { version, start, end } = span;
    if (!isIndex(start, tokens) || !isIndex(end, tokens)) throw unexpected('a span outside the tokens');
    return { version, start, end };
  });
}

function isIndex(value: unknown, limit: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= limit;
}
