import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { JsonError, JsonReader } from '../../src/weights/json.js';

function skipped(text: string): boolean {
  const reader = new JsonReader(Buffer.from(text));
  try {
    for (const _ of reader.skip());
    reader.end();
    return true;
  } catch (error) {
    if (error instanceof JsonError) return false;
    throw error;
  }
}

function parses(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

describe('skipping a value', () => {
  it('accepts every JSON text', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 6 }), (text) => {
        expect(skipped(text)).toBe(true);
      }),
    );
  });

  it('accepts nothing that is not JSON', () => {
    const unit = fc.constantFrom(...'{}[],:"\\ 01-+.eEtrufalsn\u0001x');
    fc.assert(
      fc.property(fc.string({ unit, maxLength: 12 }), (text) => {
        if (!parses(text)) expect(skipped(text)).toBe(false);
      }),
      { numRuns: 5000 },
    );
  });

  it('refuses nesting that would exhaust a stack', () => {
    expect(skipped(`${'['.repeat(120)}${']'.repeat(120)}`)).toBe(true);
    expect(skipped(`${'['.repeat(1_000_000)}`)).toBe(false);
  });
});

describe('strings', () => {
  it('are what JSON.parse says, short or long', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (value) => {
        const bytes = Buffer.from(JSON.stringify(value));
        expect(new JsonReader(bytes).string(10_000)).toBe(value);
        const steps = new JsonReader(bytes).longString();
        let step = steps.next();
        while (step.done !== true) step = steps.next();
        expect(step.value).toBe(value);
      }),
    );
  });

  it('longer than a stride are cut without losing an escape at the seam', () => {
    const value = `${'x'.repeat(2 ** 18 - 1)}"é\\${'y'.repeat(2 ** 18)}`;
    const steps = new JsonReader(Buffer.from(JSON.stringify(value))).longString();
    let yields = 0;
    let step = steps.next();
    for (; step.done !== true; step = steps.next()) yields += 1;
    expect(step.value).toBe(value);
    expect(yields).toBeGreaterThan(1);
  });

  it('have a limit where the caller sets one', () => {
    expect(new JsonReader(Buffer.from('"1234"')).string(4)).toBe('1234');
    expect(() => new JsonReader(Buffer.from('"12345"')).string(4)).toThrow('a string too long');
  });
});
