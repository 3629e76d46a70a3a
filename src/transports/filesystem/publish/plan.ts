/** Which tensor goes into which file, and where in it. */
import { WeightcastError } from '../../../errors.js';
import { encodeHeaderSteps } from '../../../weights/encode-header.js';
import { orderSteps } from '../../../weights/order.js';
import type { Tensor } from '../../../weights/tensor.js';
import type { Steps } from '../../../weights/yielding.js';
import { isPublishableName } from '../version-digest.js';

/** As Hugging Face cuts: 5 GB. */
export const DEFAULT_SHARD_BYTES = 5e9;
const TENSORS_PER_STEP = 1024;
/** What tells torch's loaders how the bytes lie. */
const METADATA = { format: 'pt' };

export interface PlannedTensor {
  readonly tensor: Tensor;
  /** Bytes from the beginning of the file. */
  readonly offset: number;
}

export interface PlannedShard {
  /** Length prefix and JSON. */
  readonly header: Buffer;
  /** Size of the whole file. */
  readonly byteLength: number;
  /** In the order of their bytes. */
  readonly tensors: readonly PlannedTensor[];
}

export interface ShardPlan {
  readonly shards: readonly PlannedShard[];
  /** Bytes of all tensors. */
  readonly totalBytes: number;
}

/**
 * Cuts as Hugging Face's libraries do: tensors in the order in which engines load them, a new file where the next one would go beyond `shardBytes`; a larger
 * tensor has a file of its own. In a file, tensors with larger elements come first, as the reference library orders them: each is then aligned to
 * its elements, which torch requires of a tensor in a mapped file.
 *
 * @throws WeightcastError WC_TENSOR_UNSENDABLE for names that can't be told apart in a manifest, WC_CHECKPOINT_INVALID for duplicates and for no tensors
 */
export function* planShards(tensors: readonly Tensor[], shardBytes: number): Steps<ShardPlan> {
  yield* checkNames(tensors);
  const groups: Tensor[][] = [];
  let bytes = 0;
  let totalBytes = 0;
  for (const tensor of yield* orderSteps(tensors)) {
    const { byteLength } = tensor.range;
    if (groups.length === 0 || (bytes > 0 && bytes + byteLength > shardBytes)) {
      groups.push([]);
      bytes = 0;
    }
    groups.at(-1)?.push(tensor);
    bytes += byteLength;
    totalBytes += byteLength;
  }
  yield;
  const shards: PlannedShard[] = [];
  for (const group of groups) shards.push(yield* placed(group));
  return { shards, totalBytes };
}

function* placed(group: readonly Tensor[]): Steps<PlannedShard> {
  const ordered = [...group].sort((a, b) => b.dtype.bits - a.dtype.bits);
  const facts = ordered.map(({ name, dtype, shape, range }) => {
    return { name, dtype: dtype.name, shape, byteLength: range.byteLength };
  });
  const header = yield* encodeHeaderSteps(facts, METADATA);
  let end = header.length;
  const tensors = ordered.map((tensor) => {
    const offset = end;
    end += tensor.range.byteLength;
    return { tensor, offset };
  });
  return { header, byteLength: end, tensors };
}

function* checkNames(tensors: readonly Tensor[]): Steps<void> {
  if (tensors.length === 0) throw invalid('there is no tensor to publish');
  const names = new Set<string>();
  for (const { name } of tensors) {
    if (!isPublishableName(name)) {
      throw new WeightcastError(
        'WC_TENSOR_UNSENDABLE',
        `tensor ${JSON.stringify(name)}: a name must not be empty or have control characters`,
        { remedy: 'Give the tensor another name.' },
      );
    }
    if (names.has(name)) throw invalid(`two tensors are called ${name}`);
    names.add(name);
    if (names.size % TENSORS_PER_STEP === 0) yield;
  }
}

/** How shards were cut: the limit by which {@link planShards} cuts the same tensors alike. */
export function cutOf(
  shards: readonly { readonly byteLength: number; readonly headerByteLength: number }[],
): number {
  return shards.reduce((most, shard) => Math.max(most, shard.byteLength - shard.headerByteLength), 1);
}

/** `model.safetensors.index.json`. @param names of the shards' files */
export function* encodeIndex({ shards, totalBytes }: ShardPlan, names: readonly string[]): Steps<Buffer> {
  const entries: string[] = [];
  for (const [index, { tensors }] of shards.entries()) {
    const file = JSON.stringify(names[index]);
    for (const { tensor } of tensors) {
      entries.push(`    ${JSON.stringify(tensor.name)}: ${file}`);
      if (entries.length % TENSORS_PER_STEP === 0) yield;
    }
  }
  const metadata = JSON.stringify({ total_size: totalBytes });
  return Buffer.from(
    `{\n  "metadata": ${metadata},\n  "weight_map": {\n${entries.sort().join(',\n')}\n  }\n}\n`,
  );
}

function invalid(message: string): WeightcastError {
  return new WeightcastError('WC_CHECKPOINT_INVALID', message, { remedy: 'Publish each tensor once.' });
}
