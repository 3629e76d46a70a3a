import type { Random } from './random.js';

const MOST_BYTES = 32 * 1024;

const NUMBERS = [
  '0',
  '-1',
  '1e999',
  '-0',
  '1.5',
  '9007199254740991',
  '9007199254740993',
  '18446744073709551615',
  'NaN',
];
const JSON_PIECES = [
  '{',
  '}',
  '[',
  ']',
  '"',
  ',',
  ':',
  'null',
  'true',
  '\\u0000',
  '\\ud800',
  '"__proto__":',
  '{"a":',
  '[[',
  '\n',
];
const BYTES = [[0xff], [0x00], [0x80], [0xc3, 0x28], [0xf0, 0x9f, 0x98, 0x80], [0xed, 0xa0, 0x80]] as const;

export interface Material {
  readonly words: readonly Uint8Array[];
  readonly others: readonly Uint8Array[];
}

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

/** Of paths, and escapes of them. */
const PATH_PIECES = ['/', '..', '../', '\\\\', '\\u002f', '\\u002e', '.', ' '];

/** Words that any of the formats may stumble over. */
export const COMMON_WORDS: readonly Uint8Array[] = [
  ...[...NUMBERS, ...JSON_PIECES, ...PATH_PIECES].map(text),
  ...BYTES.map((bytes) => Uint8Array.from(bytes)),
];

/** One to eight small changes, mostly one: of many, some spoil what another has reached. */
export function mutate(input: Uint8Array, random: Random, material: Material): Uint8Array {
  let bytes = input;
  for (let changes = 1 << Math.min(random.below(4), random.below(4)); changes > 0; changes--) {
    bytes = CHANGES[random.below(CHANGES.length)]!(bytes, random, material);
  }
  return bytes.subarray(0, MOST_BYTES);
}

type Change = (bytes: Uint8Array, random: Random, material: Material) => Uint8Array;

const splice = (bytes: Uint8Array, at: number, removed: number, added: Uint8Array): Uint8Array =>
  Buffer.concat([bytes.subarray(0, at), added, bytes.subarray(at + removed)]);

/** A stretch: mostly short. */
function stretch(bytes: Uint8Array, random: Random): { from: number; length: number } {
  const from = random.below(bytes.length + 1);
  return { from, length: random.below(Math.min(bytes.length - from, 1 << random.below(10)) + 1) };
}

const CHANGES: readonly Change[] = [
  (bytes, random) => {
    const copy = Uint8Array.from(bytes);
    if (copy.length > 0) copy[random.below(copy.length)]! ^= 1 << random.below(8);
    return copy;
  },
  (bytes, random) => {
    const copy = Uint8Array.from(bytes);
    if (copy.length > 0) copy[random.below(copy.length)] = random.below(256);
    return copy;
  },
  (bytes, random) => {
    const { from, length } = stretch(bytes, random);
    return splice(bytes, from, length, new Uint8Array(0));
  },
  (bytes, random) => {
    const { from, length } = stretch(bytes, random);
    return splice(bytes, random.below(bytes.length + 1), 0, bytes.subarray(from, from + length));
  },
  (bytes, random) => {
    const { from, length } = stretch(bytes, random);
    const again = Array.from({ length: 1 << random.below(7) }, () => bytes.subarray(from, from + length));
    return splice(bytes, from, 0, Buffer.concat(again).subarray(0, MOST_BYTES));
  },
  (bytes, random, { words }) => splice(bytes, random.below(bytes.length + 1), 0, random.pick(words)),
  (bytes, random, { words }) => {
    const word = random.pick(words);
    return splice(bytes, random.below(bytes.length + 1), word.length, word);
  },
  (bytes, random, { words }) => {
    const { from, length } = stretch(bytes, random);
    return splice(bytes, from, length, random.pick(words));
  },
  (bytes, random, { others }) => {
    const other = random.pick(others);
    const { from, length } = stretch(other, random);
    return splice(bytes, random.below(bytes.length + 1), 0, other.subarray(from, from + length));
  },
  (bytes, random, { others }) => {
    const other = random.pick(others);
    return Buffer.concat([
      bytes.subarray(0, random.below(bytes.length + 1)),
      other.subarray(random.below(other.length + 1)),
    ]);
  },
  // Nested around a stretch, so that what was valid stays so.
  (bytes, random) => {
    const { from, length } = stretch(bytes, random);
    const deep = 1 << random.below(14);
    const [open, close] = random.pick([
      ['[', ']'],
      ['{"a":', '}'],
    ] as const);
    const inner = bytes.subarray(from, from + length);
    return splice(
      bytes,
      from,
      length,
      Buffer.concat([text(open.repeat(deep)), inner, text(close.repeat(deep))]),
    );
  },
  // A little-endian length or count.
  (bytes, random) => {
    const number = Buffer.alloc(8);
    number.writeBigUInt64LE(
      random.pick([0n, 1n, 8n, 255n, 256n, 1024n, 2n ** 31n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]),
    );
    return splice(bytes, random.below(bytes.length + 1), 8, number);
  },
];
