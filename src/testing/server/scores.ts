/**
 * What the reference model says: deterministic log-probabilities of the weights that are loaded. Engines with equal weights
 * score alike at any tensor-parallel size; one changed byte changes every score.
 */
import { createHash } from 'node:crypto';

/** The state of a context: which weights wrote its key-value cache, which weights read it, and its tokens. */
export interface Context {
  readonly hash: Buffer;
}

const digest = (...parts: readonly (string | Buffer)[]): Buffer => {
  const hash = createHash('sha256');
  for (const part of parts) {
    hash.update(part);
  }
  return hash.digest();
};

const tokenBytes = (token: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(token);
  return bytes;
};

/** Uniform in [0, 1). */
const uniform = (hash: Buffer, offset: number): number => hash.readUInt32LE(offset) / 2 ** 32;

export const emptyContext = (cachedWeights: string, weights: string): Context => ({
  hash: digest(cachedWeights, '|', weights),
});

export const extend = (context: Context, token: number): Context => ({
  hash: digest(context.hash, tokenBytes(token)),
});

export interface Scored {
  readonly token: number;
  readonly logprob: number;
  readonly rank: number;
}

/** The most likely next token. */
export function greedy(context: Context, vocabulary: number): Scored {
  return {
    token: context.hash.readUInt32LE(0) % vocabulary,
    logprob: -(0.05 + 2.5 * uniform(context.hash, 4)),
    rank: 1,
  };
}

/** How likely `token` is next. */
export function score(context: Context, token: number, vocabulary: number): Scored {
  const best = greedy(context, vocabulary);
  if (token === best.token) {
    return best;
  }
  const hash = digest(context.hash, 'score', tokenBytes(token));
  return {
    token,
    logprob: best.logprob - 0.5 - 9 * uniform(hash, 0),
    rank: 2 + Math.floor(uniform(hash, 4) * Math.max(vocabulary - 2, 1)),
  };
}
