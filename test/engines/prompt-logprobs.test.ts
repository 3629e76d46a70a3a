import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { flattenPromptLogprobs } from '../../src/engines/prompt-logprobs.js';
import { hasCode } from '../../src/errors.js';

function refusal(tokens: readonly number[], raw: unknown): string {
  try {
    flattenPromptLogprobs(tokens, raw);
  } catch (error) {
    expect(hasCode(error, 'WC_ENGINE_PROTOCOL')).toBe(true);
    return (error as Error).message;
  }
  throw new Error('it was read');
}

describe('flattenPromptLogprobs', () => {
  it('picks the entry of the position, wherever JSON.parse has moved it', () => {
    // As sent: the token of the prompt first, then the likelier one. JSON.parse sorts the keys.
    const raw: unknown = JSON.parse('[null,{"117":{"logprob":-6.5},"9":{"logprob":-0.5}}]');
    expect(Object.keys((raw as object[])[1] as object)).toEqual(['9', '117']);
    expect(flattenPromptLogprobs([257, 117], raw)).toEqual([0, -6.5]);
  });

  it('gives each token its own number, whatever else an entry holds and in whatever order', () => {
    const token = fc.integer({ min: 0, max: 2 ** 32 - 1 });
    const logprob = fc.double({ min: -50, max: 0, noNaN: true });
    fc.assert(
      fc.property(
        fc.array(fc.tuple(token, logprob, fc.array(fc.tuple(token, logprob), { maxLength: 4 })), {
          minLength: 1,
        }),
        (positions) => {
          const raw = positions.map(([own, value, others], index) =>
            index === 0
              ? null
              : Object.fromEntries([
                  ...others.map(([other, seen]) => [String(other), { logprob: seen }]),
                  [String(own), { logprob: value, rank: 3 }],
                ]),
          );
          const flat = flattenPromptLogprobs(
            positions.map(([own]) => own),
            JSON.parse(JSON.stringify(raw)),
          );
          expect(flat[0]).toBe(0);
          for (const [index, [, value]] of positions.entries()) {
            // -0 is 0 in JSON.
            if (index > 0) expect(flat[index]).toBeCloseTo(value, 12);
          }
        },
      ),
    );
  });

  it('passes -9999, by which vLLM writes -Infinity', () => {
    expect(flattenPromptLogprobs([1, 2], [null, { 2: { logprob: -9999 } }])).toEqual([0, -9999]);
  });

  it('takes a number for the first token where an engine gives one', () => {
    expect(flattenPromptLogprobs([1], [{ 1: { logprob: -2 } }])).toEqual([-2]);
  });

  it.each([
    ['a position that was not scored', [null, null], 'position 1: it was not scored'],
    ['an empty position', [null, {}], 'position 1: it lacks its own token 8'],
    ['only other tokens', [null, { 9: { logprob: -1 } }], 'position 1: it lacks its own token 8'],
    ['an inherited name', [null, Object.create({ 8: { logprob: -1 } })], 'lacks its own token 8'],
    ['null, as Rust writes NaN', [null, { 8: { logprob: null } }], 'null, which stands for -Infinity or NaN'],
    ['text', [null, { 8: { logprob: '-1' } }], 'the logprob of token 8 is no number'],
    ['NaN', [null, { 8: { logprob: Number.NaN } }], 'the logprob of token 8 is no number'],
    ['too few positions', [null], '1 positions are scored, not 2'],
    ['too many positions', [null, null, null], '3 positions are scored, not 2'],
    ['nothing', undefined, 'this engine scores no prompts'],
    ['null for all', null, 'this engine scores no prompts'],
  ])('refuses %s: never a 0', (_, raw, message) => {
    expect(refusal([7, 8], raw)).toContain(message);
  });
});
