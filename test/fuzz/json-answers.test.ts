import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ANSWER_LIMITS, Answer } from '../../src/engines/answer.js';
import { recorded, VERSIONS } from '../engines/vllm/recordings.js';
import { engineAnswers, ROUTES } from './targets/engine-answers.js';

const SEEDS = [20_261_121, Math.floor(Math.random() * 2 ** 31)];
const RECORDED = VERSIONS.flatMap((version) => recorded(version))
  .map(({ response }) => response)
  .filter((response) => typeof response === 'object' && response !== null)
  .filter((response) => JSON.stringify(response).length < 4_000);

/** What a field may hold instead of what it should. */
const wrong = fc.oneof(
  fc.jsonValue({ maxDepth: 3 }),
  fc.constantFrom<unknown>(null, true, -1, 0, 1e308, -0, 2 ** 53, '', '\u0000', '0'.repeat(5_000), [], {}),
  fc.array(fc.integer(), { maxLength: 200 }),
  fc.nat(63).map((depth) => Array.from({ length: depth }).reduce<unknown>((inner) => [inner], 0)),
  fc.constant(JSON.parse('{"__proto__":{"world_size":1},"constructor":null,"toString":1}') as unknown),
);

/** Replaces, drops or doubles one place of a document. */
function damaged(value: unknown, path: readonly number[], change: { kind: string; value: unknown }): unknown {
  const [first, ...rest] = path;
  if (first === undefined || typeof value !== 'object' || value === null) {
    return change.kind === 'nest' ? { data: value, error: value } : change.value;
  }
  if (Array.isArray(value)) {
    if (value.length === 0) return [change.value];
    const index = first % value.length;
    if (change.kind === 'drop' && rest.length === 0) return value.toSpliced(index, 1);
    return value.with(index, damaged(value[index], rest, change));
  }
  const keys = Object.keys(value);
  if (keys.length === 0) return { [String(first)]: change.value };
  const key = keys[first % keys.length]!;
  const { [key]: member, ...others } = value as Record<string, unknown>;
  if (change.kind === 'drop' && rest.length === 0) return others;
  return { ...others, [key]: damaged(member, rest, change) };
}

const change = fc.record({ kind: fc.constantFrom('replace', 'drop', 'nest'), value: wrong });

test.each(SEEDS)(
  'every recorded answer, damaged anywhere, is read or refused by every route (seed %i)',
  (seed) => {
    const inputs = fc.record({
      document: fc.constantFrom(...RECORDED),
      path: fc.array(fc.nat(20), { maxLength: 5 }),
      change,
      route: fc.nat(ROUTES.length - 1),
      status: fc.nat(8),
      stride: fc.nat(255),
    });
    fc.assert(
      fc.property(inputs, ({ document, path, change, route, status, stride }) => {
        const body = Buffer.from(JSON.stringify(damaged(document, path, change)) ?? '');
        engineAnswers.run(Buffer.concat([Uint8Array.of(route, status, stride), body]));
      }),
      { seed, numRuns: 1_500 },
    );
  },
);

test.each(SEEDS)(
  'what JSON.parse would make of an answer is counted, however it arrives (seed %i)',
  (seed) => {
    const limits = { bytes: 100_000, values: 60 };
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 6 }), fc.integer({ min: 1, max: 40 }), (value, stride) => {
        const bytes = Buffer.from(JSON.stringify(value));
        const answer = new Answer(limits);
        let problem: string | null = null;
        for (let at = 0; at < bytes.length && problem === null; at += stride) {
          problem = answer.add(bytes.subarray(at, at + stride));
        }
        const count = typeof value === 'object' && value !== null ? valuesIn(value) : 0;
        if (problem === null) {
          expect(count).toBeLessThanOrEqual(limits.values);
          expect(answer.read().json).toEqual(JSON.parse(bytes.toString()));
        } else {
          expect(problem).toBe(`has more than ${limits.values} values`);
          expect(count).toBeGreaterThan(limits.values);
        }
      }),
      { seed, numRuns: 2_000 },
    );
  },
);

/** Lists and objects, and a comma between two of what they hold. */
function valuesIn(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  const held = Object.values(value);
  return 1 + Math.max(0, held.length - 1) + held.reduce((sum: number, inner) => sum + valuesIn(inner), 0);
}

test('brackets and commas in a string count for nothing', () => {
  const answer = new Answer({ bytes: 1_000_000, values: 4 });
  const body = JSON.stringify({ a: '[{,'.repeat(10_000), b: '\\"[[', c: '"]' });
  for (const byte of Buffer.from(body)) expect(answer.add(Uint8Array.of(byte))).toBeNull();
  expect(answer.read().json).toEqual(JSON.parse(body));
});

test('the largest recorded answer of every kind is far from its limit', () => {
  const largest = Math.max(
    ...VERSIONS.flatMap((version) => recorded(version)).map(
      ({ response }) => JSON.stringify(response).length,
    ),
  );
  for (const { bytes } of Object.values(ANSWER_LIMITS)) expect(bytes).toBeGreaterThan(8 * largest);
});
