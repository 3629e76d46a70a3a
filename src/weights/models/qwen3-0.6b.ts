/** The tensors of Qwen3-0.6B, by formula: a real shape for demos and benchmarks. */
import type { TensorToWrite } from '../write.js';

const LAYERS = 28;
const HIDDEN = 1024;
const HEADS = 16;
const KEY_VALUE_HEADS = 8;
const HEAD = 128;
const INTERMEDIATE = 3072;
const VOCABULARY = 151_936;

/** 310 tensors in bfloat16, 1,192,099,840 bytes; the head is tied to the embedding, so it is not among them. */
export function qwen3Tensors(): TensorToWrite[] {
  const tensor = (name: string, ...shape: number[]): TensorToWrite => ({ name, dtype: 'BF16', shape });
  const layers = Array.from({ length: LAYERS }, (_, layer) => {
    const of = (name: string) => `model.layers.${layer}.${name}.weight`;
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
  });
  return [
    tensor('model.embed_tokens.weight', VOCABULARY, HIDDEN),
    ...layers.flat(),
    tensor('model.norm.weight', HIDDEN),
  ];
}
