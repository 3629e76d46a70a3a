/** The bytes of a checkpoint in host memory. */
import { open } from 'node:fs/promises';
import type { Tensor } from '../../../src/weights/tensor.js';

/** The same tensors with their bytes read. @throws Error for tensors that are in no file */
export async function readRanges(tensors: readonly Tensor[]): Promise<Tensor[]> {
  const files = new Map<string, Awaited<ReturnType<typeof open>>>();
  try {
    const held: Tensor[] = [];
    for (const tensor of tensors) {
      const { range } = tensor;
      if (range.kind !== 'file') throw new Error(`${tensor.name} is in no file`);
      const file = files.get(range.path) ?? (await open(range.path, 'r'));
      files.set(range.path, file);
      const bytes = new Uint8Array(range.byteLength);
      await file.read(bytes, 0, range.byteLength, range.offset);
      held.push({ ...tensor, range: { kind: 'host', bytes, byteLength: range.byteLength } });
    }
    return held;
  } finally {
    for (const file of files.values()) await file.close();
  }
}
