import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseBigJson, stringifyBigJson } from '../../src/engines/big-json.js';

describe('parseBigJson', () => {
  it('keeps a u64 that a double would round, as Dynamo gives it for an instance id', () => {
    const text = '{"workers":[{"instance_id":12133735542955933045},{"instance_id":12133735542955933046}]}';
    expect(parseBigJson(text)).toEqual({
      workers: [{ instance_id: 12133735542955933045n }, { instance_id: 12133735542955933046n }],
    });
  });

  it('leaves every number that a double holds a number', () => {
    expect(
      parseBigJson('[7,-3,9007199254740991,1795251130,0.30000000000000004,1e21,1234567890123456.5]'),
    ).toEqual([7, -3, Number.MAX_SAFE_INTEGER, 1795251130, 0.30000000000000004, 1e21, 1234567890123456.5]);
    expect(parseBigJson('[9007199254740992,-9007199254740993]')).toEqual([
      9007199254740992n,
      -9007199254740993n,
    ]);
  });

  it('never takes digits in a string, or a string that looks like its own marks, for a number', () => {
    const value = {
      '12133735542955933045': '"12133735542955933045',
      mark: '#0#5',
      other: '#1#\\"18446744073709551615',
    };
    const text = `{"big":18446744073709551615,${JSON.stringify(value).slice(1)}`;
    expect(parseBigJson(text)).toEqual({ big: 18446744073709551615n, ...value });
  });

  it('never takes a string that is written in escapes for one of its marks', () => {
    const text = String.raw`{"big":18446744073709551615,"text":"\u00230#x","other":"\u00230#18446744073709551615"}`;
    expect(parseBigJson(text)).toEqual({
      big: 18446744073709551615n,
      text: '#0#x',
      other: '#0#18446744073709551615',
    });
  });

  it('leaves a number of more digits than any id to JSON.parse', () => {
    expect(parseBigJson('[184467440737095516150]')).toEqual([1.8446744073709552e20]);
    expect(parseBigJson(`[${'9'.repeat(4_000_000)}]`)).toEqual([Number.POSITIVE_INFINITY]);
  });

  it('throws SyntaxError for what is no JSON', () => {
    expect(() => parseBigJson('{bad 18446744073709551615')).toThrow(SyntaxError);
  });

  it('reads what stringifyBigJson wrote', () => {
    const { value } = fc.letrec((tie) => ({
      value: fc.oneof(
        { maxDepth: 4 },
        fc.string({ unit: 'binary' }),
        fc.maxSafeInteger(),
        fc.double({ min: -1e6, max: 1e6, noNaN: true }).filter((number) => !Object.is(number, -0)),
        fc.bigInt({ min: 2n ** 53n, max: 2n ** 64n - 1n }),
        fc.constantFrom(true, false, null),
        fc.array(tie('value')),
        fc.dictionary(fc.string(), tie('value'), { noNullPrototype: true }),
      ),
    }));
    fc.assert(
      fc.property(value, (data) => {
        expect(parseBigJson(stringifyBigJson(data))).toEqual(data);
      }),
      { numRuns: 300 },
    );
  });
});
