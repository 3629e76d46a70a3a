import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { tensorsWithNaN } from '../../../src/update/delta/not-a-number.js';
import { tensorOf } from '../../weights/files.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weightcast-nan-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** Values of one tensor behind 6 bytes of another. */
async function found(dtype: string, values: Uint8Array): Promise<boolean> {
  const path = join(folder, `${dtype}-${values.length}`);
  // NaN in every type, which belongs to the tensor before.
  await writeFile(path, Buffer.concat([Buffer.alloc(6, 0xff), values]));
  const tensor = tensorOf('t', dtype, [1 << 20]);
  const updates = values.length / (tensor.dtype.bits / 8);
  const place = { path, offset: 6 };
  const change = { tensor, updates, indices: place, values: place };
  return (await tensorsWithNaN([change], new AbortController().signal)).length > 0;
}

const bytes = (array: { readonly buffer: ArrayBuffer }) => new Uint8Array(array.buffer);

it('NaN is found in every type that is sent, and infinities are none', async () => {
  expect(await found('BF16', bytes(Uint16Array.of(0x7f80, 0xff80, 0x3f80, 0)))).toBe(false);
  expect(await found('BF16', bytes(Uint16Array.of(0x3f80, 0x7f81)))).toBe(true);
  expect(await found('BF16', bytes(Uint16Array.of(0xffc0)))).toBe(true);
  expect(await found('F16', bytes(Uint16Array.of(0x7c00, 0xfc00)))).toBe(false);
  expect(await found('F16', bytes(Uint16Array.of(0xfc01)))).toBe(true);
  expect(await found('F32', bytes(Float32Array.of(1, Infinity, -0)))).toBe(false);
  expect(await found('F32', bytes(Float32Array.of(1, Number.NaN, 2)))).toBe(true);
  expect(await found('F64', bytes(Float64Array.of(1, Number.NaN)))).toBe(true);
  expect(await found('F64', bytes(Float64Array.of(1, -Infinity)))).toBe(false);
});

it('NaN is found wherever it lies in values of many pieces', async () => {
  const many = new Uint16Array(300_000);
  expect(await found('BF16', bytes(many))).toBe(false);
  many[299_999] = 0x7fc0;
  expect(await found('BF16', bytes(many))).toBe(true);
});
