import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../src/weights/checkpoint.js';
import { qwen3Tensors } from '../../src/weights/models/qwen3-0.6b.js';
import { type TensorToWrite, type WriteOptions, writeCheckpoint } from '../../src/weights/write.js';
import { withDirectory } from './files.js';

const TENSORS: TensorToWrite[] = [
  { name: 'model.embed_tokens.weight', dtype: 'BF16', shape: [64, 33] },
  { name: 'model.layers.0.odd', dtype: 'U8', shape: [13] },
  { name: 'model.layers.0.weight', dtype: 'F32', shape: [1500, 1000] },
  { name: 'model.layers.0.scale', dtype: 'F16', shape: [] },
  { name: 'model.layers.1.none', dtype: 'BF16', shape: [0, 4] },
  { name: 'model.layers.1.weight', dtype: 'F8_E4M3', shape: [7, 3] },
];

/** Every tensor's bytes, by name. */
async function written(directory: string, tensors: readonly TensorToWrite[], options: WriteOptions) {
  await writeCheckpoint(directory, tensors, options);
  const checkpoint = await openCheckpoint(directory);
  const files = new Map(
    await Promise.all(checkpoint.files.map(async ({ path }) => [path, await readFile(path)] as const)),
  );
  const bytes = checkpoint.tensors.map(({ name, range }) => {
    if (range.kind !== 'file') throw new Error('not in a file');
    return [name, files.get(range.path)?.subarray(range.offset, range.offset + range.byteLength)] as const;
  });
  return { checkpoint, bytes: new Map(bytes) };
}

describe('a written checkpoint', () => {
  it('has the same bytes for the same seed, however it is sharded, and others for another', () =>
    withDirectory(async (directory) => {
      const one = await written(join(directory, 'one'), TENSORS, { seed: 7 });
      const many = await written(join(directory, 'many'), TENSORS, { seed: 7, shards: 4 });
      const other = await written(join(directory, 'other'), TENSORS, { seed: 8 });
      expect(one.checkpoint.files).toHaveLength(1);
      expect(many.checkpoint.files).toHaveLength(4);
      expect(many.bytes.size).toBe(TENSORS.length);
      for (const [name, bytes] of one.bytes) {
        expect(many.bytes.get(name)?.equals(bytes as Buffer)).toBe(true);
        if ((bytes?.length ?? 0) > 2) expect(other.bytes.get(name)?.equals(bytes as Buffer)).toBe(false);
      }
    }));

  it.each([1, 2, 6, 50])('is read back as it was asked for, in %d shards', (shards) =>
    withDirectory(async (directory) => {
      const { checkpoint } = await written(directory, TENSORS, { shards });
      expect(checkpoint.files).toHaveLength(Math.min(shards, TENSORS.length));
      const found = checkpoint.tensors.map(({ name, dtype, shape }) => ({ name, dtype: dtype.name, shape }));
      const byName = (a: { name: string }, b: { name: string }) => (a.name < b.name ? -1 : 1);
      expect(found.toSorted(byName)).toEqual(TENSORS.toSorted(byName));
    }),
  );

  it('holds finite numbers that are not all alike', () =>
    withDirectory(async (directory) => {
      const { bytes } = await written(directory, TENSORS, { seed: 3 });
      const raw = bytes.get('model.layers.0.weight') as Buffer;
      const floats = new Float32Array(Uint8Array.from(raw).buffer);
      expect(floats.every(Number.isFinite)).toBe(true);
      expect(new Set(floats).size).toBeGreaterThan(1_000_000);
      const bf16 = bytes.get('model.embed_tokens.weight') as Buffer;
      for (let at = 0; at < bf16.length; at += 2) expect(bf16.readUInt16LE(at) & 0x7f80).toBeLessThan(0x7f80);
    }));

  it('may be zeros', () =>
    withDirectory(async (directory) => {
      const { bytes } = await written(directory, TENSORS, { fill: 'zeros' });
      for (const data of bytes.values()) expect(data?.every((byte) => byte === 0)).toBe(true);
    }));

  it.each([
    { name: 'x', dtype: 'BF17', shape: [1] },
    { name: 'x', dtype: 'F4', shape: [3] },
    { name: 'x', dtype: 'F32', shape: [-1] },
  ])('is refused for $dtype $shape', (tensor) =>
    withDirectory(async (directory) => {
      await expect(writeCheckpoint(directory, [tensor])).rejects.toMatchObject({ code: 'WC_CONFIG_INVALID' });
    }),
  );
});

describe('the tensor list of Qwen3-0.6B', () => {
  it('is 310 tensors and 596,049,920 parameters', () => {
    const tensors = qwen3Tensors();
    expect(tensors).toHaveLength(310);
    expect(new Set(tensors.map(({ name }) => name)).size).toBe(310);
    const parameters = tensors.reduce((sum, { shape }) => sum + shape.reduce((n, d) => n * d, 1), 0);
    expect(parameters).toBe(596_049_920);
  });
});
