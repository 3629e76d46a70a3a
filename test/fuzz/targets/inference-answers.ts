/** What engines answer to those who generate and score, over both transports. */
import { generateExchange, scoreExchange } from '../../../src/inference/exchanges.js';
import type { Generation } from '../../../src/inference/types.js';
import { answerTarget, type Check, type Route, type Said, scores } from './answer-target.js';
import { expectTrue } from './target.js';

const TOKENS = [11, 7, 42];
const MAX_TOKENS = 4;

const generation: Check = (value) => {
  const { tokens, logprobs, weightVersions } = value as Generation;
  expectTrue(
    tokens.every((token) => Number.isInteger(token) && token >= 0),
    'something that is no token',
  );
  scores(tokens.length)(logprobs);
  for (const { start, end } of weightVersions ?? [])
    expectTrue(start >= 0 && end <= tokens.length, 'a span outside the tokens');
};

const request = { model: 'm', tokens: TOKENS, weightVersion: '1' };
const routes: readonly Route[] = (['vllm_generate', 'dynamo_chat'] as const).flatMap((transport) => [
  {
    exchange: generateExchange(transport, 'e', { ...request, maxTokens: MAX_TOKENS, logprobs: true }),
    check: generation,
  },
  { exchange: scoreExchange(transport, 'e', request), check: scores(TOKENS.length) },
]);

const logprobs =
  '"logprobs":{"content":[{"token":"token_id:5","logprob":-1},{"token":"six","token_id":6,"logprob":-2}]}';
const scored = '"prompt_logprobs":[null,{"7":{"logprob":-1.5}},{"42":{"logprob":-2},"7":{"logprob":-3}}]';
const said: readonly Said[] = [
  {
    route: 'generate',
    body: `{"choices":[{"token_ids":[5,6],${logprobs},"finish_reason":"stop","weight_versions":[{"version":"1","start":0,"end":2}]}]}`,
  },
  {
    route: '/v1/chat/completions',
    body: `{"choices":[{${logprobs},"finish_reason":"length"}],"nvext":{"completion_token_ids":[5,6]}}`,
  },
  { route: 'score', body: `{${scored}}` },
  { route: 'score', body: `{"nvext":{${scored}}}` },
  { route: 'score', body: '{"error":{"message":"boom"}}' },
  { route: 'generate', status: 404, body: '{"detail":"Not Found"}' },
];

export const inferenceAnswers = answerTarget('inference-answers', routes, said);
