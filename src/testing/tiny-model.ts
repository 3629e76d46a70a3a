/** A small checkpoint with the tensor names of a Qwen3, for engines that nobody gave a model. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { qwen3TensorsOf } from '../weights/models/qwen3.js';
import { type TensorToWrite, writeCheckpoint } from '../weights/write.js';

const HIDDEN = 64;
const INTERMEDIATE = 128;
const VOCABULARY = 512;
const HEAD = 32;
const HEADS = 4;
const KEY_VALUE_HEADS = 4;

/** The tensors; every split dimension is divisible by 1, 2 and 4 workers. */
export function tinyTensors(layers = 2): readonly TensorToWrite[] {
  return qwen3TensorsOf({
    layers,
    hidden: HIDDEN,
    heads: HEADS,
    keyValueHeads: KEY_VALUE_HEADS,
    head: HEAD,
    intermediate: INTERMEDIATE,
    vocabulary: VOCABULARY,
    tied: false,
  });
}

/**
 * Writes a tiny model directory: config.json and one or more safetensors files of seeded random weights.
 *
 * @example
 * ```ts
 * await writeTinyModel('/tmp/step_0', { seed: 0 });
 * ```
 */
export async function writeTinyModel(
  directory: string,
  options: { readonly seed?: number; readonly layers?: number; readonly shards?: number } = {},
): Promise<void> {
  const { seed = 0, layers = 2, shards = 1 } = options;
  await writeCheckpoint(directory, tinyTensors(layers), { seed, shards });
  const config = {
    architectures: ['Qwen3ForCausalLM'],
    model_type: 'qwen3',
    hidden_size: HIDDEN,
    intermediate_size: INTERMEDIATE,
    num_hidden_layers: layers,
    num_attention_heads: HEADS,
    num_key_value_heads: KEY_VALUE_HEADS,
    head_dim: HEAD,
    vocab_size: VOCABULARY,
    tie_word_embeddings: false,
    torch_dtype: 'bfloat16',
  };
  await writeFile(join(directory, 'config.json'), `${JSON.stringify(config, null, 2)}\n`);
}
