import fc from 'fast-check';
import { describe, expect, it, test, vi } from 'vitest';
import { DTYPES } from '../../src/weights/dtype.js';
import { scanHeader } from '../../src/weights/header/scan.js';
import {
  type HeaderColumns,
  HeaderError,
  metadataOf,
  parseHeader,
  tensorsOf,
} from '../../src/weights/header.js';
import { runToEnd } from '../../src/weights/yielding.js';

const entry = (name: string, shape: readonly number[], begin: number, end: number, dtype = 'BF16') =>
  `${JSON.stringify(name)}:{"dtype":"${dtype}","shape":[${shape}],"data_offsets":[${begin},${end}]}`;

function meaning(bytes: Buffer, columns: HeaderColumns) {
  const tensors = runToEnd(tensorsOf(columns, { path: '/model', headerByteLength: 8 + bytes.length }));
  return { tensors, metadata: [...runToEnd(metadataOf(bytes, columns))] };
}

/** What the parser says of it; null where it refuses it. */
function parsed(bytes: Buffer, dataBytes: number) {
  try {
    return meaning(bytes, runToEnd(parseHeader(bytes, dataBytes)));
  } catch (error) {
    if (error instanceof HeaderError) return null;
    throw error;
  }
}

/** null where the quick way is not gone. */
async function scanned(text: string | Buffer, dataBytes: number) {
  const bytes = Buffer.from(text);
  const columns = await scanHeader(bytes, dataBytes, null);
  return columns === null ? null : meaning(bytes, columns);
}

describe('the quick way through a header', () => {
  const tensor = fc.record({
    name: fc
      .string({ unit: 'grapheme', maxLength: 8 })
      .filter((name) => !/["\\\p{Cc}]|^__metadata__$/u.test(name)),
    dtype: fc.constantFrom(...DTYPES.values()),
    shape: fc.array(fc.nat(6), { maxLength: 4 }),
  });

  it('gives the tensors and the metadata that the parser gives', async () => {
    const wholeBytes = fc
      .uniqueArray(tensor, { selector: ({ name }) => name, minLength: 1, maxLength: 10 })
      .filter((tensors) => tensors.every(({ dtype, shape }) => (dtype.bits * product(shape)) % 8 === 0));
    const metadata = fc.option(fc.dictionary(fc.string({ maxLength: 4 }), fc.string({ maxLength: 4 })));
    await fc.assert(
      fc.asyncProperty(wholeBytes, metadata, fc.nat(3), async (tensors, metadata, spaces) => {
        let end = 0;
        const entries = tensors.map(({ name, dtype, shape }) => {
          const begin = end;
          end += (dtype.bits * product(shape)) / 8;
          return entry(name, shape, begin, end, dtype.name);
        });
        if (metadata !== null) entries.unshift(`"__metadata__":${JSON.stringify(metadata)}`);
        const text = `{${entries}}${' '.repeat(spaces)}`;
        const expected = parsed(Buffer.from(text), end);
        expect(expected).not.toBeNull();
        expect(await scanned(text, end)).toEqual(expected);
      }),
      { numRuns: 300 },
    );
  });

  it('takes nothing that the parser refuses, however a header is damaged', async () => {
    const text = `{"__metadata__":{"format":"pt"},${['a', 'é.weight', 'c'].map((name, i) =>
      entry(name, [i, 12], 12 * i * (i - 1), 12 * i * (i + 1)),
    )}}`;
    const unit = fc.constantFrom(...'{}[],:"\\ 0159-.eBFabc\u0000\u00ff');
    const damage = fc.tuple(fc.nat(Buffer.byteLength(text)), fc.nat(3), fc.string({ unit, maxLength: 3 }));
    let taken = 0;
    await fc.assert(
      fc.asyncProperty(
        damage,
        fc.constantFrom('utf8', 'latin1'),
        async ([at, removed, inserted], encoding) => {
          const bytes = Buffer.from(text);
          const damaged = Buffer.concat([
            bytes.subarray(0, at),
            Buffer.from(inserted, encoding as BufferEncoding),
            bytes.subarray(at + removed),
          ]);
          const found = await scanned(damaged, 72);
          if (found === null) return;
          taken += 1;
          expect(found).toEqual(parsed(damaged, 72));
        },
      ),
      { numRuns: 3000 },
    );
    expect(taken).toBeGreaterThan(0);
  });

  const a = entry('a', [4], 0, 8);
  test.each([
    ['white space', `{${a}, ${entry('b', [4], 8, 16)}}`, 16],
    ['another order of the fields', '{"a":{"shape":[4],"dtype":"BF16","data_offsets":[0,8]}}', 8],
    ['tensors in another order than their bytes', `{${entry('b', [4], 8, 16)},${a}}`, 16],
    ['metadata after a tensor', `{${a},"__metadata__":{"format":"pt"}}`, 8],
    ['an escape in a name', `{"\\u0061":${a.slice(4)}}`, 8],
    ['no tensor', '{}', 0],
    ['no metadata that can be read', `{"__metadata__":{"a":"1","a":"2"},${a}}`, 8],
    ['a name twice', `{${a},${entry('a', [4], 8, 16)}}`, 16],
  ])('is not gone with %s', async (_, text, dataBytes) => {
    expect(await scanned(`{${a}}`, 8)).not.toBeNull();
    expect(await scanned(text, dataBytes)).toBeNull();
  });

  it('is not gone without the addon', async () => {
    vi.resetModules();
    vi.doMock('../../src/native.js', () => ({
      native: () => {
        throw new Error('not built');
      },
    }));
    try {
      const alone = await import('../../src/weights/header/scan.js');
      expect(await alone.scanHeader(Buffer.from(`{${a}}`), 8, null)).toBeNull();
    } finally {
      vi.doUnmock('../../src/native.js');
      vi.resetModules();
    }
  });

  it('ends with the signal', async () => {
    const reason = new Error('enough');
    const signal = AbortSignal.abort(reason);
    await expect(scanHeader(Buffer.from(`{${a}}`), 8, signal)).rejects.toBe(reason);
  });
});

const product = (shape: readonly number[]): number => shape.reduce((all, extent) => all * extent, 1);
