import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseExactJson } from '../../src/engines/exact-json.js';

test('integers beyond 2^53 keep every digit, as BigInt; others stay numbers', () => {
  expect(
    parseExactJson(
      '{"id": 12133735542955933045, "max":18446744073709551615,"low":-9223372036854775808,"n":9007199254740991, "x":1e30,"y":12345678901234567890.5,"z":12345678901234567890e2}',
    ),
  ).toEqual({
    id: 12133735542955933045n,
    max: 18446744073709551615n,
    low: -9223372036854775808n,
    n: 9007199254740991,
    x: 1e30,
    y: Number('12345678901234567890.5'),
    z: Number('12345678901234567890e2'),
  });
});

test('digits inside strings and keys are text', () => {
  const value = { '12133735542955933045': 'n:12133735542955933045,', 'a"b': '\\"12133735542955933045' };
  expect(parseExactJson(JSON.stringify(value))).toEqual(value);
});

test('what is no JSON is refused as JSON.parse refuses it', () => {
  for (const text of [
    '',
    '{',
    '0012345678901234567890',
    '--12345678901234567890',
    '1 12345678901234567890',
    '{12345678901234567890:1}',
  ])
    expect(() => parseExactJson(text), text).toThrow(SyntaxError);
});

test('every document of JSON.stringify reads as JSON.parse reads it', () => {
  fc.assert(
    fc.property(fc.jsonValue({ noUnicodeString: false }), (value) => {
      const text = JSON.stringify(value);
      const same = JSON.parse(text) as unknown;
      const exact = parseExactJson(text);
      const plain = JSON.stringify(exact, (_, member: unknown) =>
        typeof member === 'bigint' ? Number(member) : member,
      );
      expect(plain).toBe(JSON.stringify(same));
    }),
  );
});

test('every u64 survives', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (id) => {
      const { value } = parseExactJson(`{"value":${id}}`) as { value: number | bigint };
      expect(BigInt(value)).toBe(id);
    }),
  );
});

test('a hostile text takes no longer than its length', () => {
  const began = performance.now();
  for (const piece of ['\\"', '"', '1', '"\\\\', '-', '1 '])
    expect(() => parseExactJson(`[${piece.repeat(2 ** 20)}`), piece).toThrow();
  // Quadratic would be hours.
  expect(performance.now() - began).toBeLessThan(20_000);
});
