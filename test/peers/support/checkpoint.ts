import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

export interface MadeTensor {
  readonly name: string;
  /** As a safetensors header names it. */
  readonly dtype: string;
  /** As torch names it. */
  readonly torch: string;
  readonly shape: readonly number[];
  readonly bytes: Buffer;
}

/** A tensor of bytes that look random and are the same each time. */
export function madeTensor(
  name: string,
  dtype: string,
  torch: string,
  elementBytes: number,
  shape: readonly number[],
): MadeTensor {
  const length = shape.reduce((product, dimension) => product * dimension, elementBytes);
  const blocks: Buffer[] = [];
  for (let i = 0; i * 64 < length; i++) {
    blocks.push(createHash('sha512').update(`${name} ${i}`).digest());
  }
  return { name, dtype, torch, shape, bytes: Buffer.concat(blocks).subarray(0, length) };
}

/** Writes shards and their index by the format's rules, with code that shares nothing with the code that reads them. */
export async function writeCheckpoint(
  directory: string,
  shards: readonly (readonly MadeTensor[])[],
): Promise<void> {
  await mkdir(directory, { recursive: true });
  const map: Record<string, string> = {};
  let total = 0;
  for (const [index, tensors] of shards.entries()) {
    const file = `model-${String(index + 1).padStart(5, '0')}-of-${String(shards.length).padStart(5, '0')}.safetensors`;
    const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
    let offset = 0;
    for (const { name, dtype, shape, bytes } of tensors) {
      header[name] = { dtype, shape, data_offsets: [offset, offset + bytes.length] };
      offset += bytes.length;
      map[name] = file;
    }
    total += offset;
    const json = Buffer.from(JSON.stringify(header));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(json.length));
    await writeFile(
      join(directory, file),
      Buffer.concat([length, json, ...tensors.map((tensor) => tensor.bytes)]),
    );
  }
  const indexFile = { metadata: { total_size: total }, weight_map: map };
  await writeFile(join(directory, 'model.safetensors.index.json'), JSON.stringify(indexFile));
}
