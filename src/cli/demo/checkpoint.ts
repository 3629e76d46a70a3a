/** The demo's checkpoints: Qwen3-0.6B's tensors with seeded random bytes. */
import { statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { WeightcastError } from '../../errors.js';
import { qwen3Tensors } from '../../weights/models/qwen3-0.6b.js';
import { type TensorToWrite, writeCheckpoint } from '../../weights/write.js';
import { size } from '../format.js';

const BYTES_OF_BF16 = 2;
const CONFIG = { architectures: ['Qwen3ForCausalLM'], model_type: 'qwen3', tie_word_embeddings: true };

/** The same names and proportions with about 14 MB: every dimension an eighth, and a vocabulary that divides evenly. */
export function smallTensors(): TensorToWrite[] {
  const vocabulary = 151_936;
  return qwen3Tensors().map((tensor) => ({
    ...tensor,
    shape: tensor.shape.map((dimension) => (dimension === vocabulary ? 2048 : dimension / 8)),
  }));
}

/** The tensors of the real shape, or the small ones. */
export function demoTensors(small: boolean): TensorToWrite[] {
  return small ? smallTensors() : qwen3Tensors();
}

export function byteLengthOf(tensors: readonly TensorToWrite[]): number {
  return tensors.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, BYTES_OF_BF16), 0);
}

/** Writes shards, index and config.json, as a trainer would. */
export async function writeModel(
  directory: string,
  tensors: readonly TensorToWrite[],
  options: { readonly seed: number; readonly signal: AbortSignal },
): Promise<void> {
  await writeCheckpoint(directory, tensors, { shards: 2, ...options });
  await writeFile(join(directory, 'config.json'), `${JSON.stringify(CONFIG, null, 2)}\n`);
}

/** @throws WeightcastError WC_CONFIG_INVALID when the disk below `folder` has not `bytes` free */
export async function requireDiskSpace(folder: string, bytes: number): Promise<void> {
  const disk = await statfs(folder);
  const free = disk.bavail * disk.bsize;
  if (free >= bytes) return;
  const message = `${folder} has ${size(free)} free, and ${size(bytes)} are needed`;
  throw new WeightcastError('WC_CONFIG_INVALID', message, {
    remedy: 'Free some space, or set TMPDIR to a folder on another disk.',
  });
}
