/** The reference safetensors library reads the same tensors as we do, and refuses the same files. */
import { createHash } from 'node:crypto';
import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readSafetensorsHeader } from '../../src/weights/safetensors.js';
import { lane } from './support/lane.js';
import { run } from './support/process.js';
import { safetensorsPackages } from './support/venv.js';

interface Described {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly sha256: string;
}
type Verdict = { readonly tensors: Record<string, Described> } | { readonly error: string };

const script = fileURLToPath(new URL('support/safetensors_reference.py', import.meta.url));

async function ours(path: string): Promise<Verdict> {
  try {
    const { tensors } = await readSafetensorsHeader(path);
    await using file = await open(path);
    const described: Record<string, Described> = {};
    for (const { name, dtype, shape, range } of tensors) {
      if (range.kind !== 'file') throw new Error('a tensor of a file is a range of it');
      const bytes = Buffer.alloc(range.byteLength);
      await file.read(bytes, 0, bytes.length, range.offset);
      described[name] = {
        dtype: dtype.name,
        shape,
        sha256: createHash('sha256').update(bytes).digest('hex'),
      };
    }
    return { tensors: described };
  } catch (error) {
    if ((error as { code?: string }).code === 'WC_SAFETENSORS_INVALID') return { error: String(error) };
    throw error;
  }
}

/** A file with this header and this much data. */
function fileOf(header: string, dataBytes: number, headerBytes = Buffer.byteLength(header)): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(headerBytes));
  return Buffer.concat([length, Buffer.from(header), Buffer.alloc(dataBytes, 1)]);
}

const f32 = (begin: number, end: number, shape: readonly number[] = [1]) =>
  JSON.stringify({ dtype: 'F32', shape, data_offsets: [begin, end] });

/** Files that the format forbids, each in one way. */
const MALFORMED: Readonly<Record<string, Buffer>> = {
  'no bytes': Buffer.alloc(0),
  'seven bytes': Buffer.alloc(7),
  'a header longer than the file': fileOf(`{"a":${f32(0, 4)}}`, 4, 5_000),
  'a header longer than the limit': fileOf(`{"a":${f32(0, 4)}}`, 4, 100_000_001),
  'no JSON': fileOf('{"a":', 0),
  'a list': fileOf('[]', 0),
  'an unknown dtype': fileOf('{"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}}', 4),
  'no shape': fileOf('{"a":{"dtype":"F32","data_offsets":[0,4]}}', 4),
  'a negative dimension': fileOf(`{"a":${f32(0, 4, [-1])}}`, 4),
  'a fractional dimension': fileOf(`{"a":${f32(0, 4, [0.5])}}`, 4),
  'a shape whose product overflows': fileOf(`{"a":${f32(0, 0, [2 ** 40, 2 ** 40])}}`, 0),
  'offsets of another size than the shape': fileOf(`{"a":${f32(0, 8)}}`, 8),
  'offsets in reverse': fileOf(`{"a":${f32(4, 0)}}`, 4),
  'a first tensor that does not start at 0': fileOf(`{"a":${f32(4, 8)}}`, 8),
  'a hole': fileOf(`{"a":${f32(0, 4)},"b":${f32(8, 12)}}`, 12),
  'an overlap': fileOf(`{"a":${f32(0, 4)},"b":${f32(2, 6)}}`, 6),
  'two tensors in one place': fileOf(`{"a":${f32(0, 4)},"b":${f32(0, 4)}}`, 4),
  'data after the last tensor': fileOf(`{"a":${f32(0, 4)}}`, 8),
  'too little data': fileOf(`{"a":${f32(0, 4)}}`, 3),
  'metadata that is no text': fileOf(`{"__metadata__":{"x":1},"a":${f32(0, 4)}}`, 4),
};

/** The format's own document forbids duplicate keys; the reference library lets the last one win. */
const STRICTER: Readonly<Record<string, Buffer>> = {
  'a tensor twice': fileOf(`{"a":${f32(0, 4)},"a":${f32(0, 4)}}`, 4),
};

/** One byte of the header changed, the same ones each time. */
function* mutations(good: Buffer, count: number): Generator<Buffer> {
  const headerEnd = 8 + Number(good.readBigUInt64LE());
  const alphabet = Buffer.from('{}[],:"0129aF8\\ \n-.\x00\xff', 'latin1');
  let state = 20261121;
  const next = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  for (let i = 0; i < count; i++) {
    const file = Buffer.from(good);
    file[next(headerEnd)] = alphabet[next(alphabet.length)]!;
    yield file;
  }
}

await lane('safetensors', safetensorsPackages, (python) => {
  let directory: string;
  let good: Buffer;
  let reference: Record<string, Verdict>;
  const path = (name: string) => join(directory, name);

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'weightcast-safetensors-'));
    const written = await run(python.python, [script, 'write', path('good')]);
    expect(written.stderr).toBe('');
    good = await readFile(path('good'));
    const cases = { ...MALFORMED, ...STRICTER };
    for (const [name, bytes] of Object.entries(cases)) await writeFile(path(name), bytes);
    let count = 0;
    for (const bytes of mutations(good, 2_000)) await writeFile(path(`mutation ${count++}`), bytes);
    const read = await run(python.python, [script, 'read', directory]);
    reference = JSON.parse(read.stdout) as Record<string, Verdict>;
  }, 120_000);
  afterAll(() => rm(directory, { recursive: true }));

  test('a file of the reference library reads the same: names, dtypes, shapes and bytes', async () => {
    const verdict = reference.good as { tensors: Record<string, Described> };
    expect(Object.keys(verdict.tensors)).toHaveLength(75);
    expect(await ours(path('good'))).toEqual(verdict);
  });

  test.each(Object.keys(MALFORMED))('both refuse a file with %s', async (name) => {
    expect(reference[name]).toHaveProperty('error');
    expect(await ours(path(name))).toHaveProperty('error');
  });

  test.each(Object.keys(STRICTER))('we also refuse a file with %s', async (name) => {
    expect(reference[name]).toHaveProperty('tensors');
    expect(await ours(path(name))).toHaveProperty('error');
  });

  test('2,000 files with one changed byte in the header are read or refused alike', async () => {
    const names = Object.keys(reference).filter((name) => name.startsWith('mutation'));
    let accepted = 0;
    for (const name of names) {
      const verdict = await ours(path(name));
      const truth = reference[name]!;
      if ('tensors' in truth) {
        accepted += 1;
        expect(verdict, name).toEqual(truth);
      } else {
        expect(verdict, `${name}: ${truth.error}`).toHaveProperty('error');
      }
    }
    expect(names).toHaveLength(2_000);
    expect(accepted).toBeGreaterThan(50); // else the mutations would prove only that broken JSON is refused
  });
});
