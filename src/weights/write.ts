/** Writes checkpoints of seeded random weights, sharded as Hugging Face does it: for demos, tests and benchmarks. */
import { type FileHandle, mkdir, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { WeightcastError } from '../errors.js';
import { DTYPES } from './dtype.js';
import { encodeHeaderSteps } from './encode-header.js';
import { RandomBytes } from './random.js';
import { runToEnd } from './yielding.js';

const BLOCK_BYTES = 4 * 2 ** 20;

export interface TensorToWrite {
  readonly name: string;
  /** A dtype of the safetensors format: 'BF16' … */
  readonly dtype: string;
  readonly shape: readonly number[];
}

export interface WriteOptions {
  /** Files to spread the tensors over; 1 (the default) writes model.safetensors without an index. */
  readonly shards?: number | undefined;
  /** Same seed, same bytes, whatever the number of shards. Default 0. */
  readonly seed?: number | undefined;
  /** Default 'random': finite numbers. */
  readonly fill?: 'random' | 'zeros' | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface WrittenCheckpoint {
  readonly files: readonly string[];
  /** Bytes of all tensors. */
  readonly byteLength: number;
}

interface Placed extends TensorToWrite {
  readonly byteLength: number;
}

/**
 * Writes a checkpoint into a directory, which is made if need be. The index is written last.
 *
 * @throws WeightcastError WC_CONFIG_INVALID for an unknown dtype or a shape that fills no whole bytes
 * @example
 * ```ts
 * await writeCheckpoint('/tmp/tiny', [{ name: 'w', dtype: 'BF16', shape: [4, 4] }], { seed: 1 });
 * ```
 */
export async function writeCheckpoint(
  directory: string,
  tensors: readonly TensorToWrite[],
  options: WriteOptions = {},
): Promise<WrittenCheckpoint> {
  const { seed = 0, fill = 'random', signal } = options;
  const placed = tensors.map((tensor) => ({ ...tensor, byteLength: sizeOf(tensor) }));
  const byteLength = placed.reduce((sum, tensor) => sum + tensor.byteLength, 0);
  const shards = spread(placed, options.shards ?? 1, byteLength);
  await mkdir(directory, { recursive: true });
  const names = shards.map((_, i) => shardName(i, shards.length));
  for (const [i, shard] of shards.entries()) {
    await using file = await open(join(directory, names[i] as string), 'w');
    await writeShard(file, shard, fill === 'zeros' ? null : seed, signal);
  }
  if (shards.length > 1) {
    const weightMap = shards.flatMap((shard, i) => shard.map(({ name }) => [name, names[i]] as const));
    const index = { metadata: { total_size: byteLength }, weight_map: Object.fromEntries(weightMap) };
    await writeFile(join(directory, 'model.safetensors.index.json'), `${JSON.stringify(index, null, 2)}\n`);
  }
  return { files: names.map((name) => join(directory, name)), byteLength };
}

function sizeOf({ name, dtype, shape }: TensorToWrite): number {
  const bits = shape.reduce(
    (product, dimension) => product * dimension,
    DTYPES.get(dtype)?.bits ?? Number.NaN,
  );
  if (!Number.isSafeInteger(bits) || bits < 0 || bits % 8 !== 0) {
    throw new WeightcastError(
      'WC_CONFIG_INVALID',
      `tensor ${name}: ${dtype} [${shape.join(', ')}] can't be written`,
    );
  }
  return bits / 8;
}

/** Cuts the list where the bytes reach the next even share; every shard gets at least one tensor while there are some. */
function spread(tensors: readonly Placed[], wanted: number, total: number): Placed[][] {
  const count = Math.max(1, Math.min(wanted, tensors.length));
  const shards: Placed[][] = [[]];
  let bytes = 0;
  for (const [i, tensor] of tensors.entries()) {
    const full = bytes >= (total * shards.length) / count;
    const needed = tensors.length - i === count - shards.length;
    if (shards.length < count && (shards.at(-1) as Placed[]).length > 0 && (full || needed)) shards.push([]);
    (shards.at(-1) as Placed[]).push(tensor);
    bytes += tensor.byteLength;
  }
  return shards;
}

function shardName(index: number, count: number): string {
  const number = (value: number) => String(value).padStart(5, '0');
  return count === 1 ? 'model.safetensors' : `model-${number(index + 1)}-of-${number(count)}.safetensors`;
}

async function writeShard(
  file: FileHandle,
  tensors: readonly Placed[],
  seed: number | null,
  signal: AbortSignal | undefined,
): Promise<void> {
  await file.writeFile(runToEnd(encodeHeaderSteps(tensors, { format: 'pt' })));
  const words = new Uint32Array(BLOCK_BYTES / Uint32Array.BYTES_PER_ELEMENT);
  for (const { name, dtype, byteLength } of tensors) {
    const random = seed === null ? null : new RandomBytes(seed, name, dtype);
    for (let done = 0; done < byteLength; done += BLOCK_BYTES) {
      signal?.throwIfAborted();
      const bytes = Math.min(BLOCK_BYTES, byteLength - done);
      random?.fill(words.subarray(0, Math.ceil(bytes / Uint32Array.BYTES_PER_ELEMENT)));
      await file.writeFile(new Uint8Array(words.buffer, 0, bytes));
    }
  }
}
