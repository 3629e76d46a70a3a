/** What a completion request asks for, and how it is refused. */
import type { Core } from './core.js';
import { failure } from './replies.js';
import {
  invalid,
  isObject,
  type JsonObject,
  jsonProblem,
  parseJson,
  Refusal,
  type Request,
} from './validation.js';

export interface Asked {
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

/** Reads the body; throws the refusal that this version gives. */
export function ask(core: Core, request: Request): Asked {
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
