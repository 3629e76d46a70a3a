/** Helpers for tests of this folder: temporary directories and hand-made safetensors files. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DTYPES } from '../../src/weights/dtype.js';
import type { Tensor } from '../../src/weights/tensor.js';

export async function withDirectory<T>(use: (directory: string) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), 'weightcast-test-'));
  try {
    return await use(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** A safetensors file with this very header text. */
export function safetensors(header: string, data: Uint8Array): Buffer {
  const json = Buffer.from(header);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, data]);
}

export type Entries = Readonly<Record<string, { dtype: string; shape: number[]; bytes: Uint8Array }>>;

export async function writeSafetensors(path: string, entries: Entries): Promise<void> {
  let offset = 0;
  const header: Record<string, unknown> = Object.create(null); // '__proto__' is a name as any other
  for (const [name, { dtype, shape, bytes }] of Object.entries(entries)) {
    header[name] = { dtype, shape, data_offsets: [offset, offset + bytes.length] };
    offset += bytes.length;
  }
  const data = Buffer.concat(Object.values(entries).map(({ bytes }) => bytes));
  await writeFile(path, safetensors(JSON.stringify(header), data));
}

/** A tensor that claims to lie in a file, for planning: nothing reads it. */
export function tensorOf(name: string, dtypeName: string, shape: readonly number[], offset = 0): Tensor {
  const dtype = DTYPES.get(dtypeName);
  if (dtype === undefined) throw new Error(`no dtype ${dtypeName}`);
  const byteLength = shape.reduce((product, dimension) => product * dimension, dtype.bits) / 8;
  return { name, dtype, shape, range: { kind: 'file', path: '/model.safetensors', offset, byteLength } };
}
