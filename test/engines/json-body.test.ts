import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeAhead, encoded, jsonSteps } from '../../src/engines/json-body.js';
import { runToEnd } from '../../src/weights/yielding.js';

describe('a body that is encoded in slices', () => {
  it('has the bytes of JSON.stringify', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(runToEnd(jsonSteps({ value, left: undefined })).toString()).toBe(JSON.stringify({ value }));
      }),
    );
  });

  it('has them for lists of any length', () => {
    for (const length of [0, 1, 1023, 1024, 1025, 5000]) {
      const body = {
        names: Array.from({ length }, (_, i) => `é${i}`),
        shapes: new Array(length).fill([1, 2]),
      };
      expect(runToEnd(jsonSteps(body)).toString()).toBe(JSON.stringify(body));
    }
  });

  it('is sent as it was encoded', async () => {
    const body = { names: ['a', 'b'] };
    expect(encoded(body)).toBe('{"names":["a","b"]}');
    await encodeAhead(body, null);
    const bytes = encoded(body);
    expect(bytes).toEqual(Buffer.from('{"names":["a","b"]}'));
    await encodeAhead(body, null);
    expect(encoded(body)).toBe(bytes);
  });
});
