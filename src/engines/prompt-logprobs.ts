/**
 * What an engine thinks of a prompt's tokens, out of the one shape that vLLM and Dynamo share: `[null, {"117": {"logprob": -6.6, "rank": 483}, …}, …]`.
 *
 * A position holds its own token and, when asked, likelier ones. Their order means nothing: JSON.parse sorts integer-like keys, so
 * "the first entry" is whichever token has the smallest id. The position's own token id picks.
 */
import { WeightcastError } from '../errors.js';
import { isRecord } from './is-record.js';

/**
 * One log-probability for each token of the prompt; 0.0 for the first, which nothing precedes.
 *
 * vLLM writes -9999 for a token that it holds impossible (-Infinity is no JSON), and that passes. Rust writes null, for -Infinity and for NaN
 * alike: as broken weights give NaN, that is refused, and never taken for 0, which would be certainty.
 *
 * @throws WeightcastError WC_ENGINE_PROTOCOL when a position is missing, was not scored, or has no finite number for its own token
 */
export function flattenPromptLogprobs(tokens: readonly number[], raw: unknown): number[] {
  if (!Array.isArray(raw)) {
    throw unreadable(null, 'the answer has no prompt_logprobs: this engine scores no prompts');
  }
  if (raw.length !== tokens.length) {
    throw unreadable(null, `${raw.length} positions are scored, not ${tokens.length}`);
  }
  return tokens.map((token, position) => {
    const entry: unknown = raw[position];
    if (position === 0 && (entry === null || entry === undefined)) return 0;
    return logprobOf(token, position, entry);
  });
}

function logprobOf(token: number, position: number, entry: unknown): number {
  if (!isRecord(entry)) throw unreadable(position, 'it was not scored', token);
  const key = String(token);
  const own: unknown = Object.hasOwn(entry, key) ? entry[key] : undefined;
  if (!isRecord(own)) throw unreadable(position, `it lacks its own token ${token}`, token);
  const { logprob } = own;
  if (typeof logprob === 'number' && Number.isFinite(logprob)) return logprob;
  const shown = logprob === null ? 'null, which stands for -Infinity or NaN' : 'no number';
  throw unreadable(position, `the logprob of token ${token} is ${shown}`, token);
}

function unreadable(position: number | null, problem: string, token: number | null = null): WeightcastError {
  const message = position === null ? problem : `position ${position}: ${problem}`;
  return new WeightcastError('WC_ENGINE_PROTOCOL', message, {
    remedy: 'The engine does not score prompts as vLLM does: see its log, and check what stands between.',
    details: { position, token },
  });
}
