/** Reading answers that come from elsewhere: unknown fields pass, wrong types do not. */
import { isRecord } from '../engines/is-record.js';
import { WeightcastError } from '../errors.js';

export function field(value: unknown, name: string): unknown {
  return isRecord(value) && Object.hasOwn(value, name) ? value[name] : undefined;
}

export function unexpected(found: string): WeightcastError {
  return new WeightcastError('WC_ENGINE_PROTOCOL', `unexpected answer: ${found}`);
}

/** Largest token id that any protocol carries (Dynamo's are u32). */
const MAX_TOKEN = 2 ** 32 - 1;

export function isToken(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= MAX_TOKEN;
}

export function tokenList(value: unknown, where: string): readonly number[] {
  if (!Array.isArray(value) || !value.every(isToken)) throw unexpected(`no token ids in ${where}`);
  return value;
}

/**
 * `{content: [{token, logprob, token_id?}]}`, one entry a generated token. Where an entry names its token ("token_id:73", or a token_id), it must be
 * the one that was generated there.
 */
export function generatedLogprobs(value: unknown, tokens: readonly number[]): readonly number[] {
  const content = field(value, 'content');
  if (!Array.isArray(content) || content.length !== tokens.length) {
    throw unexpected(`no logprob for each of ${tokens.length} generated tokens`);
  }
  return tokens.map((token, index) => {
    const entry: unknown = content[index];
    const named = namedToken(entry);
    if (named !== null && named !== token) {
      throw unexpected(`the logprob of token ${named} where token ${token} was generated`);
    }
    const logprob = field(entry, 'logprob');
    if (typeof logprob !== 'number' || !Number.isFinite(logprob)) {
      throw unexpected(`no finite logprob of generated token ${index}`);
    }
    return logprob;
  });
}

function namedToken(entry: unknown): number | null {
  const id = field(entry, 'token_id');
  if (isToken(id)) return id;
  const text = field(entry, 'token');
  const digits = typeof text === 'string' ? /^token_id:(\d{1,10})$/.exec(text)?.[1] : undefined;
  return digits === undefined ? null : Number(digits);
}
