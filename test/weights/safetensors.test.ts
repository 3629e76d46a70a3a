import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { WeightcastError } from '../../src/errors.js';
import { DTYPES } from '../../src/weights/dtype.js';
import { readSafetensorsHeader } from '../../src/weights/safetensors.js';
import { type Entries, safetensors, withDirectory, writeSafetensors } from './files.js';
import reference from './vectors/safetensors-0.8.0.json' with { type: 'json' };

async function read(bytes: Uint8Array, signal?: AbortSignal) {
  return withDirectory(async (directory) => {
    const path = join(directory, 'model.safetensors');
    await writeFile(path, bytes);
    return readSafetensorsHeader(path, { signal });
  });
}

/** What the reference library lets pass and we do not: see src/weights/header.ts. */
const STRICTER = new Set([
  'leading space',
  'dup tensor',
  'dup tensor other',
  'dup metadata key',
  'dup by escape',
  'dup unknown field',
  'dup deep in unknown',
  'seq form',
  'enum form',
  'huge dim zero',
  'rank 65',
]);

describe('a safetensors header', () => {
  test.each(reference.cases)('is judged as the reference library judges it: $name', async (vector) => {
    const result = read(Buffer.from(vector.file, 'base64'));
    if (vector.accepted && !STRICTER.has(vector.name)) {
      const names = (await result).tensors.map(({ name }) => name);
      expect(names.sort()).toEqual([...(vector.tensors ?? [])].sort());
    } else {
      await expect(result).rejects.toMatchObject({ code: 'WC_SAFETENSORS_INVALID' });
    }
  });

  it('gives every tensor its place in the file, in the order of the bytes', async () => {
    const header = `{"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},
      "__metadata__":{"format":"pt","é":"\\u00e9\\n"},
      "empty":{"data_offsets":[16,16],"shape":[0,5],"dtype":"I64"},
      "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}   `;
    const file = await read(safetensors(header, Buffer.alloc(16)));
    const start = 8 + Buffer.byteLength(header);
    expect(file.headerByteLength).toBe(start);
    expect(file.byteLength).toBe(start + 16);
    expect(file.metadata).toEqual(
      new Map([
        ['format', 'pt'],
        ['é', 'é\n'],
      ]),
    );
    expect(
      file.tensors.map(({ name, shape, range }) => [
        name,
        shape,
        (range as { offset: number }).offset,
        range.byteLength,
      ]),
    ).toEqual([
      ['a', [], start, 4],
      ['b', [2, 3], start + 4, 12],
      ['empty', [0, 5], start + 16, 0],
    ]);
  });

  test.each([
    [
      'an overlap',
      '{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}',
      6,
      { tensor: 'b', begin: 2, end: 6 },
    ],
    [
      'a hole',
      '{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}}',
      6,
      { tensor: 'b', begin: 4, end: 6 },
    ],
    [
      'a wrong size',
      '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}',
      4,
      { tensor: 'a', begin: 0, end: 4, byteLength: 8 },
    ],
    [
      'a file cut short',
      '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
      7,
      { tensor: 'a', end: 8, dataBytes: 7 },
    ],
  ])('names file, tensor and offsets of %s', async (_, header, dataBytes, facts) => {
    const error = await read(safetensors(header, Buffer.alloc(dataBytes))).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(WeightcastError);
    const { message, details } = error as WeightcastError;
    expect(message).toContain('model.safetensors: ');
    expect(message).toContain(JSON.stringify(facts.tensor).slice(1, -1));
    expect(details).toMatchObject(facts);
  });

  it('survives a round trip of any list of tensors', async () => {
    const entry = fc
      .tuple(
        fc.constantFrom(...[...DTYPES.values()].filter(({ bits }) => bits >= 8)),
        fc.array(fc.nat(5), { maxLength: 4 }),
      )
      .map(([dtype, shape]) => ({
        dtype: dtype.name,
        shape,
        bytes: new Uint8Array(shape.reduce((product, dimension) => product * dimension, dtype.bits / 8)),
      }));
    const names = fc.string({ unit: 'grapheme', maxLength: 20 }).filter((name) => name !== '__metadata__');
    await withDirectory(async (directory) => {
      const path = join(directory, 'any.safetensors');
      await fc.assert(
        fc.asyncProperty(fc.dictionary(names, entry, { maxKeys: 12 }), async (entries: Entries) => {
          await writeSafetensors(path, entries);
          const file = await readSafetensorsHeader(path);
          const expected = Object.entries(entries).map(([name, { dtype, shape }]) => ({
            name,
            dtype,
            shape,
          }));
          const found = file.tensors.map(({ name, dtype, shape }) => ({
            name,
            dtype: dtype.name,
            shape: [...shape],
          }));
          const byName = (a: { name: string }, b: { name: string }) => (a.name < b.name ? -1 : 1);
          expect(found.sort(byName)).toEqual(expected.sort(byName));
        }),
        { numRuns: 60 },
      );
    });
  });

  it('answers any damage with a named error or with tensors that fit the file', async () => {
    const good = safetensors(
      '{"__metadata__":{"format":"pt"},"a.weight":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}',
      Buffer.alloc(12),
    );
    const damage = fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 });
    await withDirectory(async (directory) => {
      const path = join(directory, 'damaged.safetensors');
      await fc.assert(
        fc.asyncProperty(damage, fc.nat(good.length), async (changes, length) => {
          const bytes = Buffer.from(good);
          for (const [at, value] of changes) bytes[at] = value;
          await writeFile(path, length % 3 === 0 ? bytes.subarray(0, length) : bytes);
          const file = await readSafetensorsHeader(path).catch((error: unknown) => error);
          if (file instanceof Error) {
            expect(file).toMatchObject({ code: 'WC_SAFETENSORS_INVALID' });
            return;
          }
          const { tensors, byteLength, headerByteLength } = file as Awaited<
            ReturnType<typeof readSafetensorsHeader>
          >;
          const total = tensors.reduce((sum, { range }) => sum + range.byteLength, headerByteLength);
          expect(total).toBe(byteLength);
        }),
        { numRuns: 300 },
      );
    });
  });
});

describe('a header of 100,000 tensors', () => {
  const entries = Array.from(
    { length: 100_000 },
    (_, i) =>
      `"model.layers.${i % 61}.mlp.experts.${i}.w1.weight":{"dtype":"BF16","shape":[1,1],"data_offsets":[${2 * i},${2 * i + 2}]}`,
  );

  it.each([
    ['in order', entries],
    ['in reverse', entries.toReversed()],
  ])('lets the event loop turn while it is parsed, %s', async (_, listed) => {
    const bytes = safetensors(`{${listed.join(',')}}`, Buffer.alloc(200_000));
    let turns = 0;
    let running = true;
    const turn = () => {
      turns += 1;
      if (running) setImmediate(turn);
    };
    setImmediate(turn);
    const file = await read(bytes);
    running = false;
    expect(file.tensors.map(({ name }) => name)[99_999]).toBe('model.layers.20.mlp.experts.99999.w1.weight');
    // At 4 ms a slice no machine parses 11 MB in fewer.
    expect(turns).toBeGreaterThan(8);
  });

  it('stops when the signal says so', async () => {
    const bytes = safetensors(`{${entries.join(',')}}`, Buffer.alloc(200_000));
    const controller = new AbortController();
    await withDirectory(async (directory) => {
      const path = join(directory, 'model.safetensors');
      await writeFile(path, bytes);
      const reading = readSafetensorsHeader(path, { signal: controller.signal });
      setImmediate(() => controller.abort(new Error('enough')));
      await expect(reading).rejects.toThrow('enough');
    });
  });
});

describe('a path that is no file', () => {
  it('is a read error when it does not exist', async () => {
    await expect(readSafetensorsHeader('/nowhere/model.safetensors')).rejects.toMatchObject({
      code: 'WC_FILE_READ',
      details: { code: 'ENOENT' },
    });
  });

  it('is refused when it is a directory or a device, before it is opened', async () => {
    for (const path of ['/tmp', '/dev/zero']) {
      await expect(readSafetensorsHeader(path)).rejects.toMatchObject({ code: 'WC_SAFETENSORS_INVALID' });
    }
  });
});
