/** The files that both readers are asked about: the same ones for the same seed. */
import { readFileSync } from 'node:fs';
import { DTYPE_LIST } from '../../../../src/weights/dtype.js';
import { COMMON_WORDS, type Material, mutate } from '../../../fuzz/coverage/mutate.js';
import { Random } from '../../../fuzz/coverage/random.js';
import { fileOf, NUMBERS, wellFormed } from './well-formed.js';

const VECTORS = new URL('../../../weights/vectors/safetensors-0.8.0.json', import.meta.url);
const LENGTH_BYTES = 8;

const WORDS: readonly string[] = [
  ...NUMBERS,
  ...DTYPE_LIST.map(({ name }) => `"${name}"`),
  ...[
    '"__metadata__":',
    '"__metadata__":{},',
    '"dtype":',
    '"shape":',
    '"data_offsets":',
    '[0,4]',
    '[4,4]',
    '[0,0]',
    '{}',
    '\\u0061',
  ],
  '"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},',
  '"z":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},',
];

/** The recorded vectors but the huge one, to be damaged. */
function recorded(): Buffer[] {
  const { cases } = JSON.parse(readFileSync(VECTORS, 'utf8')) as { cases: { file: string }[] };
  return cases
    .map(({ file }) => Buffer.from(file, 'base64'))
    .filter(({ length }) => length > LENGTH_BYTES && length < 4096);
}

const VECTOR_FILES = recorded();
const MATERIAL: Material = {
  words: [...COMMON_WORDS, ...WORDS.map((word) => Buffer.from(word))],
  others: VECTOR_FILES.map((file) => file.subarray(LENGTH_BYTES)),
};

/** A batch: a third well-formed or with one fault, the rest damaged at random. */
export function filesOf(seed: number, batch: number, count: number): Buffer[] {
  const random = new Random(Math.imul(seed, 0x9e3779b1) ^ Math.imul(batch + 1, 0x85ebca6b));
  return Array.from({ length: count }, () => {
    const way = random.below(6);
    if (way === 0) return wellFormed(random, 0);
    if (way < 3) return wellFormed(random, 1 + random.below(2));
    const base = way === 3 ? random.pick(VECTOR_FILES) : wellFormed(random, 0);
    if (way === 5 && random.below(3) === 0) return Buffer.from(mutate(base, random, MATERIAL));
    return damaged(base, random);
  });
}

/** With another header, whose length is told right. */
function damaged(file: Buffer, random: Random): Buffer {
  const length = Number(file.readBigUInt64LE());
  const end = LENGTH_BYTES + Math.min(length, file.length - LENGTH_BYTES);
  const header = file.subarray(LENGTH_BYTES, end);
  const changed = random.below(2) === 0 ? withOtherByte(header, random) : mutate(header, random, MATERIAL);
  return fileOf(changed, file.subarray(end));
}

const ALPHABET = Buffer.from('{}[],:"0123456789aF8\\ \n-.eE\x00\xff', 'latin1');

/** A change so small that much of what is changed still is a header. */
function withOtherByte(header: Buffer, random: Random): Buffer {
  const copy = Buffer.from(header);
  copy[random.below(copy.length)] = random.pick([...ALPHABET]);
  return copy;
}
