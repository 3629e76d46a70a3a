import { describe, expect, it } from 'vitest';
import { pairSteps } from '../../src/weights/pairs.js';
import { runToEnd } from '../../src/weights/yielding.js';
import { tensorOf } from './files.js';

const a = tensorOf('a', 'BF16', [2, 3]);
const b = tensorOf('b', 'F32', [4]);
const pair = (base: (typeof a)[], next: (typeof a)[]) =>
  runToEnd(pairSteps({ tensors: base }, { tensors: next })).map(({ next: { name } }) => name);

describe('two versions of one model', () => {
  it('are paired by name, in the order of the new one', () => {
    expect(pair([a, b], [b, a])).toEqual(['b', 'a']);
  });

  it.each([
    ['a new tensor', [a], [a, b], 'b is new'],
    ['one that vanished', [a, b], [a], 'b is gone'],
    ['another shape', [a], [tensorOf('a', 'BF16', [3, 2])], 'a is BF16[3,2] and was BF16[2,3]'],
    ['another dtype', [a], [tensorOf('a', 'F16', [2, 3])], 'a is F16[2,3] and was BF16[2,3]'],
  ] as const)('are refused for %s, by name', (_, base, next, words) => {
    expect(() => pair([...base], [...next])).toThrow(
      expect.objectContaining({ code: 'WC_DELTA_BASE', message: expect.stringContaining(words) }),
    );
  });

  it('name the first few of many', () => {
    const many = Array.from({ length: 9 }, (_, i) => tensorOf(`t${i}`, 'U8', [1]));
    expect(() => pair(many, [])).toThrow(/t4 is gone and 4 more/);
  });
});
