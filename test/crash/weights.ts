/** Versions of a model, each of which differs a little from the one before. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type MadeTensor, madeTensor, writeCheckpoint } from '../peers/support/checkpoint.js';

/** Of most tensors. */
export const TENSOR_BYTES = 4096;

/**
 * Some tensors with a few other elements than in the version before, the first one with all, and one that is new in every version.
 *
 * @param frozen so many more are the same in every version
 */
export async function writeVersion(
  folder: string,
  version: number,
  count: number,
  frozen = 0,
): Promise<string> {
  const path = join(folder, `source-${version}`);
  const tensors = Array.from({ length: count }, (_, i) => moved(tensorOf(i), i, version));
  const same = Array.from({ length: frozen }, (_, i) => tensorOf(count + i));
  const fresh = madeTensor(`head.${version}`, 'F32', 'float32', 4, [700]);
  await writeCheckpoint(path, [[...tensors, ...same, fresh]]);
  await writeFile(join(path, 'config.json'), JSON.stringify({ version }));
  return path;
}

const tensorOf = (index: number) =>
  madeTensor(`model.layers.${index}.w`, 'BF16', 'bfloat16', 2, [TENSOR_BYTES / 2]);

function moved(tensor: MadeTensor, index: number, version: number): MadeTensor {
  const bytes = Buffer.from(tensor.bytes);
  for (let at = 2 * index; at < bytes.length; at += index === 0 ? 2 : 500) {
    bytes[at] = ((bytes[at] as number) + version) & 255;
  }
  return { ...tensor, bytes };
}
