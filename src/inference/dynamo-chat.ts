/**
 * Token ids through Dynamo's /v1/chat/completions: `nvext.token_data` is the prompt, the messages only please the schema, and `nvext.extra_fields` asks
 * for what comes back (contracts/dynamo.md 2.2 and 3; recorded on 1.6.1).
 */
import { flattenPromptLogprobs } from '../engines/prompt-logprobs.js';
import { field, generatedLogprobs, tokenList } from './read.js';
import type { Dialect, TokenRequest } from './types.js';
import { firstChoice, reasonOf } from './vllm-generate.js';

/** Missing or empty messages are a 400; these are never read, as token_data takes their place. */
const PLACEHOLDER = [{ role: 'user', content: '.' }];

export const dynamoChat: Dialect = {
  path: '/v1/chat/completions',

  generateBody: (request, salt) => ({
    ...request.sampling,
    model: request.model,
    messages: PLACEHOLDER,
    max_completion_tokens: request.maxTokens,
    temperature: request.temperature ?? 1,
    top_p: request.topP ?? 1,
    ...(request.logprobs === true ? { logprobs: true } : {}),
    nvext: nvext(request, 'completion_token_ids', salt),
  }),

  scoreBody: (request, salt) => ({
    model: request.model,
    messages: PLACEHOLDER,
    max_completion_tokens: 1,
    temperature: 1,
    top_p: 1,
    prompt_logprobs: 1,
    nvext: nvext(request, 'prompt_logprobs', salt),
  }),

  readGeneration(json, request) {
    const choice = firstChoice(json);
    const ids = field(field(json, 'nvext'), 'completion_token_ids');
    const tokens = tokenList(ids, 'nvext.completion_token_ids');
    return {
      tokens,
      logprobs: request.logprobs === true ? generatedLogprobs(field(choice, 'logprobs'), tokens) : null,
      finishReason: reasonOf(choice),
      weightVersions: null,
    };
  },

  /** The same numbers come twice: as f64 in nvext, and rounded to f32 at the top, where older workers leave nvext out. */
  readScores: (json, tokens) =>
    flattenPromptLogprobs(
      tokens,
      field(field(json, 'nvext'), 'prompt_logprobs') ?? field(json, 'prompt_logprobs'),
    ),
};

/** An unknown key in nvext is a 400: nothing else goes in. */
function nvext({ tokens }: TokenRequest, wanted: string, salt: string | null): object {
  return {
    token_data: tokens,
    extra_fields: [wanted],
    ...(salt === null ? {} : { cache_salt: salt }),
  };
}
