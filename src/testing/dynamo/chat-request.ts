/** What a chat request asks for, and how the frontend refuses it (test/vectors/dynamo/nvext_tiny.json). */
import { parseBigJson } from '../../engines/big-json.js';
import type { Answer } from '../server/replies.js';
import { isObject, type JsonObject, Refusal } from '../server/validation.js';

export interface ChatRequest {
  readonly model: string;
  readonly prompt: readonly number[];
  readonly maxTokens: number;
  readonly promptLogprobs: number | null;
  readonly extraFields: readonly string[];
  /** The worker that has to answer. */
  readonly instance: bigint | null;
  readonly cacheSalt: string;
  readonly logprobs: boolean;
}

const NVEXT = [
  'greed_sampling',
  'use_raw_prompt',
  'annotations',
  'backend_instance_id',
  'token_data',
  'max_thinking_tokens',
  'cache_salt',
  'extra_fields',
  'metadata_upload',
  'prefill_worker_id',
  'decode_worker_id',
  'dp_rank',
  'prefill_dp_rank',
  'agent_hints',
  'request_timestamp_ms',
  'routing_constraints',
  'router',
];

export function frontendError(status: number, type: string, message: string): Answer {
  return { status, contentType: 'application/json', body: { message, type, code: status } };
}

const badRequest = (message: string): Refusal => new Refusal(frontendError(400, 'Bad Request', message));

const malformed = (what: string, text: string): Refusal =>
  badRequest(
    `Failed to deserialize the JSON body into the target type: ${what} at line 1 column ${text.length}`,
  );

/** @throws Refusal */
export function readChat(text: string, vocabulary: number): ChatRequest {
  let body: unknown;
  try {
    body = parseBigJson(text);
  } catch {
    throw malformed('expected value', text);
  }
  if (!isObject(body)) throw malformed('invalid type', text);
  const { model, messages } = body;
  if (typeof model !== 'string') throw malformed('missing field `model`', text);
  if (!Array.isArray(messages)) throw malformed('missing field `messages`', text);
  if (messages.length === 0) {
    throw badRequest("Validation: The 'messages' field cannot be empty. At least one message is required.");
  }
  const nvext = isObject(body.nvext) ? body.nvext : {};
  const unknown = Object.keys(nvext).find((key) => !NVEXT.includes(key));
  if (unknown !== undefined) {
    const known = NVEXT.map((key) => `\`${key}\``).join(', ');
    throw malformed(`unknown field \`${unknown}\`, expected one of ${known}`, text);
  }
  const extraFields = strings(nvext.extra_fields);
  if (extraFields.includes('completion_token_ids') && Number(body.n ?? 1) !== 1) {
    throw badRequest(
      'Validation: `nvext.extra_fields=["completion_token_ids"]` requires exactly one generated choice',
    );
  }
  return {
    model,
    prompt: tokensOf(nvext, messages, vocabulary, text),
    maxTokens: wholeNumber(body.max_completion_tokens) ?? wholeNumber(body.max_tokens) ?? 16,
    promptLogprobs: wholeNumber(body.prompt_logprobs),
    extraFields,
    instance: integer(nvext.backend_instance_id),
    cacheSalt: typeof nvext.cache_salt === 'string' ? nvext.cache_salt : '',
    logprobs: body.logprobs === true,
  };
}

/** token_data skips the template; without it every byte of the messages is a token. */
function tokensOf(nvext: JsonObject, messages: unknown, vocabulary: number, text: string): readonly number[] {
  const { token_data: given } = nvext;
  if (given === undefined) return [...Buffer.from(JSON.stringify(messages))].map((byte) => byte % vocabulary);
  if (!Array.isArray(given) || given.some((token) => typeof token !== 'number')) {
    const wrong = Array.isArray(given) ? given.find((token) => typeof token !== 'number') : given;
    throw malformed(`invalid type: string ${JSON.stringify(wrong)}, expected u32`, text);
  }
  const tokens = given as number[];
  if (tokens.some((token) => !Number.isInteger(token) || token < 0 || token >= vocabulary)) {
    throw badRequest('Invalid request');
  }
  return tokens;
}

const strings = (value: unknown): readonly string[] =>
  Array.isArray(value) ? value.filter((each): each is string => typeof each === 'string') : [];

const wholeNumber = (value: unknown): number | null =>
  typeof value === 'number' && Number.isInteger(value) && value >= 0 ? value : null;

const integer = (value: unknown): bigint | null =>
  typeof value === 'bigint' || typeof value === 'number' ? BigInt(value) : null;
