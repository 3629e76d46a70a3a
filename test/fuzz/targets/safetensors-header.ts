import { readFileSync } from 'node:fs';
import { HeaderError, metadataOf, parseHeader, tensorsOf } from '../../../src/weights/header.js';
import type { Tensor } from '../../../src/weights/tensor.js';
import { expectTrue, type FuzzTarget, finish, text } from './target.js';

const VECTORS = new URL('../../weights/vectors/safetensors-0.8.0.json', import.meta.url);

interface Declared {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data_offsets: readonly [number, number];
}

/** The header alone; the bytes that follow it are as many as it declares. What is accepted is what JSON.parse sees in it. */
export const safetensorsHeader: FuzzTarget = {
  name: 'safetensors-header',
  seeds: () => {
    const { cases } = JSON.parse(readFileSync(VECTORS, 'utf8')) as { cases: { file: string }[] };
    const files = cases.map(({ file }) => Buffer.from(file, 'base64')).filter(({ length }) => length < 4096);
    return [...files.map((file) => file.subarray(8)), text(compactHeader())];
  },
  run: (input) => {
    const bytes = Buffer.from(input);
    const seen = parsed(bytes.toString('utf8'));
    const dataBytes = endOf(seen);
    let columns: ReturnType<typeof parse>;
    try {
      columns = parse(bytes, dataBytes);
    } catch (error) {
      if (error instanceof HeaderError) return;
      throw error;
    }
    expectTrue(typeof seen === 'object' && seen !== null, 'accepted what is no JSON object');
    const { __metadata__: metadata, ...declared } = seen as Record<string, Declared>;
    const tensors = finish(tensorsOf(columns, { path: '/f', headerByteLength: 8 + bytes.length }));
    expectTrue(tensors.length === Object.keys(declared).length, 'other tensors than are declared');
    let position = 8 + bytes.length;
    for (const tensor of tensors)
      position = follow(tensor, declared[tensor.name], position, 8 + bytes.length);
    expectTrue(position === 8 + bytes.length + dataBytes, 'bytes are left over');
    const read = Object.fromEntries(finish(metadataOf(bytes, columns)));
    expectTrue(JSON.stringify(read) === JSON.stringify(metadata ?? {}), 'other metadata');
  },
};

const parse = (bytes: Buffer, dataBytes: number) => finish(parseHeader(bytes, dataBytes));

function parsed(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}

function endOf(seen: unknown): number {
  if (typeof seen !== 'object' || seen === null) return 0;
  const ends = Object.values(seen).map((entry: Partial<Declared> | null) => entry?.data_offsets?.[1] ?? 0);
  const numbers = ends.filter((end) => Number.isSafeInteger(end) && end >= 0);
  return numbers.reduce((most, end) => Math.max(most, end), 0);
}

/** Each tensor begins where the one before it ends. */
function follow(tensor: Tensor, declared: Declared | undefined, position: number, start: number): number {
  const { range, dtype, shape } = tensor;
  expectTrue(declared !== undefined, `no ${tensor.name} in the header`);
  const { data_offsets: offsets } = declared as Declared;
  expectTrue(range.kind === 'file' && range.offset === position, `${tensor.name} does not follow`);
  expectTrue(position === start + offsets[0], `${tensor.name} begins elsewhere`);
  expectTrue(range.byteLength === offsets[1] - offsets[0], `${tensor.name} ends elsewhere`);
  expectTrue(dtype.name === declared?.dtype, `${tensor.name} has another dtype`);
  expectTrue(JSON.stringify(shape) === JSON.stringify(declared?.shape), `${tensor.name} has another shape`);
  const bits = shape.reduce((product, dimension) => product * dimension, dtype.bits);
  expectTrue(bits === 8 * range.byteLength, `${tensor.name} has not the bytes of its shape`);
  return position + range.byteLength;
}

function compactHeader(): string {
  const entries = Array.from({ length: 6 }, (_, i) => [
    `model.layers.${i}.mlp.weight`,
    { dtype: 'BF16', shape: [2, i], data_offsets: [2 * i * (i - 1), 2 * i * (i + 1)] },
  ]);
  return JSON.stringify({ __metadata__: { format: 'pt', é: '\u0000' }, ...Object.fromEntries(entries) });
}
