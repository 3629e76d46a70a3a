/** Random safetensors files by the format's rules, with every form of JSON and of layout that these allow, and with a fault or two if asked. */
import { DTYPE_LIST, type DType } from '../../../../src/weights/dtype.js';
import type { Random } from '../../../fuzz/coverage/random.js';

interface Entry {
  name: string;
  dtype: DType;
  shape: number[];
  begin: number;
  end: number;
}

const NAMES = [
  'a',
  'b',
  'model.layers.0.w',
  '',
  'é',
  '😀',
  '\u0000',
  '__metadata',
  '__proto__',
  'x"y\\',
  '\uffff',
  '\u007f',
];
/** Forms of a number, right and wrong. */
export const NUMBERS = [
  ...[
    '-0',
    '0.0',
    '1.0',
    '1e0',
    '1e3',
    '1E+2',
    '00',
    '01',
    '+1',
    '0x1',
    '-1',
    '.5',
    '1.',
    '1e',
    'NaN',
    'Infinity',
    '"1"',
    'null',
    'true',
  ],
  ...['255', '256', '65536', '2147483648', '4294967295', '4294967296', '1099511627776', '4503599627370496'],
  ...[
    '9007199254740991',
    '9007199254740992',
    '9007199254740993',
    '9223372036854775807',
    '9223372036854775808',
  ],
  ...[
    '18446744073709551615',
    '18446744073709551616',
    '1152921504606846976',
    '99999999999999999999999',
    '1e308',
    '1e309',
    '1e999',
  ],
  ...[
    '1.7976931348623157e308',
    '1.7976931348623159e308',
    '4.9e-324',
    '1e-999',
    '0e999',
    `1${'0'.repeat(330)}`,
    `0.${'0'.repeat(500)}1`,
  ],
];
/** Fields beyond what we hold, which the library takes. */
const LONG_FIELDS = [
  `"${'k'.repeat(70_000)}":1`,
  `"n":0.${'0'.repeat(450)}1`,
  Array.from({ length: 1_001 }, (_, i) => `"u${i}":0`).join(','),
];
const VALUES = [
  '{"a":1,"\\u0061":2}',
  'null',
  'true',
  'false',
  '0',
  '-1.5e-7',
  '""',
  '"\\u00e9\\n"',
  '[]',
  '{}',
  '[1,[2,{"x":[]}]]',
  '{"a":{"a":1},"b":2}',
  '"\\ud83d\\ude00"',
];

/** A file; `faults` is how many things are wrong with it at most. */
export function wellFormed(random: Random, faults: number): Buffer {
  const entries = laidOut(random);
  let dataBytes = entries.reduce((most, { end }) => Math.max(most, end), 0);
  const members: string[] = [];
  const fault = Array.from({ length: faults }, () => random.below(24));
  for (const kind of fault) {
    const entry = entries[random.below(entries.length)];
    if (entry === undefined) continue;
    const other = random.pick(entries);
    const step = random.pick([1, 1, 2, 4, 8, Math.abs(entry.end - entry.begin)]);
    if (kind === 0) entry.begin += step;
    else if (kind === 1) entry.end += step;
    else if (kind === 2) {
      entry.begin += step;
      entry.end += step;
    } else if (kind === 3) {
      entry.begin = Math.max(0, entry.begin - step);
      entry.end = Math.max(0, entry.end - step);
    } else if (kind === 4) [entry.begin, entry.end] = [other.begin, other.end];
    else if (kind === 5) [entry.begin, entry.end] = [entry.end, entry.begin];
    else if (kind === 6) entry.name = other.name;
    else if (kind === 7) entry.dtype = random.pick(DTYPE_LIST);
    else if (kind === 8) entry.shape.push(random.pick([0, 1, 2, 4294967296, 4503599627370496]));
    else if (kind === 9)
      entry.shape[random.below(entry.shape.length + 1)] = random.pick([0, 1, 2, 3, 2 ** 31, 2 ** 52]);
    else if (kind === 10) dataBytes += step;
    else if (kind === 11) dataBytes = Math.max(0, dataBytes - step);
    else if (kind === 12) entries.splice(random.below(entries.length), 1);
    else if (kind === 13) entries.push({ ...entry });
  }
  const writer = new Writer(random, random.below(3), fault.includes(14));
  for (const entry of shuffled(entries, random)) {
    members.push(`${writer.string(entry.name)}:${writer.entry(entry, fault.includes(15))}`);
  }
  for (let count = fault.includes(16) ? 2 : random.below(2); count > 0; count -= 1) {
    const metadata = writer.metadata(fault.includes(17));
    members.splice(random.below(members.length + 1), 0, `${writer.string('__metadata__')}:${metadata}`);
  }
  if (fault.includes(18)) members.splice(random.below(members.length + 1), 0, `"odd":${random.pick(VALUES)}`);
  if (fault.includes(19)) members.push('');
  const lead = fault.includes(20) ? random.pick([' ', '\n', '\t', '\ufeff', '\u0000', '\v']) : '';
  const trail = fault.includes(21) ? random.pick(['\u0000', 'x', '{}', ',', '\v', '\u00a0']) : writer.space();
  const header = Buffer.from(`${lead}{${writer.space()}${members.join(`,${writer.space()}`)}}${trail}`);
  if (fault.includes(22)) header[random.below(header.length)] = random.pick([0x80, 0xc0, 0xed, 0xf5, 0xff]);
  const data = Buffer.alloc(dataBytes).map((_, index) => (index * 7 + 3) & 0xff);
  return fileOf(
    header,
    data,
    fault.includes(23) ? random.pick([-1n, 1n, 2n, 8n, 2n ** 32n, 2n ** 63n, 100_000_001n]) : 0n,
  );
}

/** A header and what follows it; `off` is added to its length. */
export function fileOf(header: Uint8Array, data: Uint8Array, off = 0n): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt.asUintN(64, BigInt(header.length) + off));
  return Buffer.concat([length, header, data]);
}

function laidOut(random: Random): Entry[] {
  const count = random.pick([0, 1, 1, 2, 3, 5, random.below(12)]);
  let position = 0;
  return Array.from({ length: count }, (_, index) => {
    const dtype = random.pick(DTYPE_LIST);
    const shape = Array.from({ length: random.below(4) }, () => random.pick([0, 1, 1, 2, 3, 4]));
    // Four elements of 4 or 6 bits fill whole bytes.
    if (dtype.bits < 8 && random.below(8) > 0) shape.push(4);
    const bits = shape.reduce((product, dimension) => product * dimension, dtype.bits);
    const begin = position;
    position += Math.ceil(bits / 8);
    const name = index < 3 ? random.pick(NAMES) + index : `t.${index}`;
    return { name: random.below(9) === 0 ? random.pick(NAMES) : name, dtype, shape, begin, end: position };
  });
}

function shuffled<T>(list: readonly T[], random: Random): T[] {
  const copy = [...list];
  if (random.below(2) === 0) return copy;
  for (let i = copy.length - 1; i > 0; i -= 1) {
    const j = random.below(i + 1);
    [copy[i], copy[j]] = [copy[j] as T, copy[i] as T];
  }
  return copy;
}

/** Writes JSON; `loose` is how far from the compact form. */
class Writer {
  readonly #random: Random;
  readonly #loose: number;
  readonly #oddNumber: boolean;

  constructor(random: Random, loose: number, oddNumber: boolean) {
    this.#random = random;
    this.#loose = loose;
    this.#oddNumber = oddNumber;
  }

  space(): string {
    return this.#loose === 0 ? '' : ' \n\t\r '.slice(0, this.#random.below(this.#random.below(6) + 1));
  }

  string(text: string): string {
    if (this.#loose < 2 || this.#random.below(3) > 0) return JSON.stringify(text);
    const units = Array.from({ length: text.length }, (_, i) =>
      text.charCodeAt(i).toString(16).padStart(4, '0'),
    );
    return `"${units.map((unit) => `\\u${unit}`).join('')}"`;
  }

  entry({ dtype, shape, begin, end }: Entry, odd: boolean): string {
    const members = [
      `${this.string('dtype')}:${this.space()}${this.#dtype(dtype.name, odd)}`,
      `${this.string('shape')}:${this.#list(shape)}`,
      `${this.string('data_offsets')}${this.space()}:${this.#list([begin, end])}`,
    ];
    if (this.#loose === 2) for (let i = this.#random.below(3); i > 0; i -= 1) members.push(this.#unknown());
    if (odd && this.#random.below(60) === 0) members.push(this.#random.pick(LONG_FIELDS));
    if (odd && this.#random.below(40) === 0) members[1] = `"shape":[${[...shape, ...Array(65).fill(1)]}]`;
    if (odd) this.#spoil(members, [dtype.name, shape, [begin, end]]);
    const list = this.#loose > 0 ? shuffled(members, this.#random) : members;
    if (odd && this.#random.below(8) === 0)
      return `["${dtype.name}",${this.#list(shape)},${this.#list([begin, end])}]`;
    return `${this.space()}{${this.space()}${list.join(`,${this.space()}`)}${this.space()}}${this.space()}`;
  }

  metadata(odd: boolean): string {
    const random = this.#random;
    const keys = ['format', 'é', '', '\u0000', '__metadata__'].slice(0, random.below(6));
    const members = keys.map(
      (key) => `${this.string(key)}:${this.space()}${this.string(`${key} is "pt"\n`)}`,
    );
    if (!odd) return random.below(10) === 0 ? 'null' : `{${members.join(',')}}`;
    const value = random.pick(VALUES);
    if (random.below(4) === 0) return value;
    return `{${[...members, `${this.string(random.pick(['x', ...keys]))}:${value}`].join(',')}}`;
  }

  #dtype(name: string, odd: boolean): string {
    if (!odd || this.#random.below(4) > 0) return this.string(name);
    return this.#random.pick([
      `{"${name}":null}`,
      `{"${name}":{}}`,
      `["${name}"]`,
      `"${name.toLowerCase()}"`,
      `"${name} "`,
      '3',
      'null',
    ]);
  }

  #spoil(members: string[], values: readonly unknown[]): void {
    const random = this.#random;
    const at = random.below(3);
    const kind = random.below(6);
    const key = ['dtype', 'shape', 'data_offsets'][at] as string;
    if (kind === 0) members.splice(at, 1);
    else if (kind === 1) members.push(`${this.string(key)}:${JSON.stringify(values[at])}`);
    else if (kind === 2) members[at] = `"${key}":${random.pick(VALUES)}`;
    else if (kind === 3) {
      const depth = random.pick([3, 60, 124, 125, 126, 127, 200]);
      const [open, close] = random.pick([
        ['[', ']'],
        ['{"a":', '}'],
      ] as const);
      members.push(`"x":${open.repeat(depth)}${open === '[' ? '' : '1'}${close.repeat(depth)}`);
    } else if (kind === 4) members.push(`"x":${random.pick(NUMBERS)}`, `"y":${random.pick(NUMBERS)}`);
    else members.push(`"x":1`, `"${random.pick(['x', '\\u0078', 'y'])}":2`);
  }

  #unknown(): string {
    return `${this.string(this.#random.pick(['x', 'stride', 'é']) + this.#random.below(50))}:${this.space()}${this.#random.pick(VALUES)}`;
  }

  #list(numbers: readonly number[]): string {
    const texts = numbers.map((value) => `${this.space()}${value}${this.space()}`);
    if (this.#oddNumber && this.#random.below(4) === 0) {
      const at = this.#random.below(texts.length + 1);
      texts[at] = this.#random.pick(NUMBERS);
    }
    return `${this.space()}[${texts.join(',')}${texts.length === 0 ? this.space() : ''}]`;
  }
}
