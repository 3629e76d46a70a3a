/** A small checkpoint with the tensor names of a Qwen3, for engines that nobody gave a model. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TensorToWrite, writeCheckpoint } from '../weights/write.js';

const HIDDEN = 64;
const INTERMEDIATE = 128;
const VOCABULARY = 512;
const HEAD = 32;
const HEADS = 4;
const KEY_VALUE_HEADS = 4;

/** The tensors; every split dimension is divisible by 1, 2 and 4 workers. */
export function tinyTensors(layers = 2): readonly TensorToWrite[] {
  const tensor = (name: string, ...shape: number[]): TensorToWrite => ({ name, dtype: 'BF16', shape });
  return [
    tensor('model.embed_tokens.weight', VOCABULARY, HIDDEN),
    ...Array.from({ length: layers }, (_, layer) => {
      const of = (name: string): string => `model.layers.${layer}.${name}.weight`;
      return [
        tensor(of('input_layernorm'), HIDDEN),
        tensor(of('self_attn.q_proj'), HEADS * HEAD, HIDDEN),
        tensor(of('self_attn.k_proj'), KEY_VALUE_HEADS * HEAD, HIDDEN),
        tensor(of('self_attn.v_proj'), KEY_VALUE_HEADS * HEAD, HIDDEN),
        tensor(of('self_attn.q_norm'), HEAD),
        tensor(of('self_attn.k_norm'), HEAD),
        tensor(of('self_attn.o_proj'), HIDDEN, HEADS * HEAD),
        tensor(of('post_attention_layernorm'), HIDDEN),
        tensor(of('mlp.gate_proj'), INTERMEDIATE, HIDDEN),
        tensor(of('mlp.up_proj'), INTERMEDIATE, HIDDEN),
        tensor(of('mlp.down_proj'), HIDDEN, INTERMEDIATE),
      ];
    }).flat(),
    tensor('model.norm.weight', HIDDEN),
    tensor('lm_head.weight', VOCABULARY, HIDDEN),
  ];
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
