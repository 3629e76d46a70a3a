/** Checkpoints that differ from another one in a few elements, as those of two training steps do. */
import { cp, open } from 'node:fs/promises';
import { type Checkpoint, openCheckpoint } from '../../src/weights/checkpoint.js';
import type { Tensor } from '../../src/weights/tensor.js';

export interface ChangeOptions {
  /** Of the elements of each tensor, 0 to 1. */
  readonly fraction: number;
  /** Another one changes other elements. */
  readonly seed: number;
  /** Default: all. */
  readonly only?: (tensor: Tensor) => boolean;
}

/** Copies a checkpoint and flips the lowest bit of some elements, spread over each tensor. Returns how many were changed. */
export async function writeChanged(from: string, to: string, options: ChangeOptions): Promise<number> {
  const { fraction, seed, only = () => true } = options;
  await cp(from, to, { recursive: true });
  let changed = 0;
  await eachTensor(await openCheckpoint(to), async (tensor, bytes) => {
    if (!only(tensor) || fraction === 0) return false;
    const size = Math.max(1, tensor.dtype.bits / 8);
    const step = 1 / fraction;
    for (let at = seed % step; at < bytes.length / size; at += step) {
      bytes[Math.floor(at) * size] = (bytes[Math.floor(at) * size] as number) ^ 1;
      changed += 1;
    }
    return true;
  });
  return changed;
}

/** Rewrites the bytes of one tensor in place. */
export async function writeTensor(
  directory: string,
  name: string,
  change: (bytes: Buffer) => void,
): Promise<void> {
  await eachTensor(await openCheckpoint(directory), async (tensor, bytes) => {
    if (tensor.name === name) change(bytes);
    return tensor.name === name;
  });
}

async function eachTensor(
  checkpoint: Checkpoint,
  visit: (tensor: Tensor, bytes: Buffer) => Promise<boolean>,
): Promise<void> {
  for (const tensor of checkpoint.tensors) {
    const { range } = tensor;
    if (range.kind !== 'file') continue;
    const file = await open(range.path, 'r+');
    try {
      const bytes = Buffer.alloc(range.byteLength);
      await file.read(bytes, 0, bytes.length, range.offset);
      if (await visit(tensor, bytes)) await file.write(bytes, 0, bytes.length, range.offset);
    } finally {
      await file.close();
    }
  }
}
