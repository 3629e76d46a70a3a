/** The tensors of a Qwen3 of any size, as its checkpoints name them. */
import type { TensorToWrite } from '../write.js';

export interface Qwen3Shape {
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly head: number;
  readonly intermediate: number;
  readonly vocabulary: number;
  /** The head is the embedding, so it is not among the tensors. */
  readonly tied: boolean;
}

/** All tensors in bfloat16, in checkpoint order. */
export function qwen3TensorsOf(shape: Qwen3Shape): TensorToWrite[] {
  const { hidden, heads, keyValueHeads, head, intermediate, vocabulary } = shape;
  const tensor = (name: string, ...dims: number[]): TensorToWrite => ({ name, dtype: 'BF16', shape: dims });
  const layers = Array.from({ length: shape.layers }, (_, layer) => {
    const of = (name: string) => `model.layers.${layer}.${name}.weight`;
    return [
      tensor(of('input_layernorm'), hidden),
      tensor(of('self_attn.q_proj'), heads * head, hidden),
      tensor(of('self_attn.k_proj'), keyValueHeads * head, hidden),
      tensor(of('self_attn.v_proj'), keyValueHeads * head, hidden),
      tensor(of('self_attn.q_norm'), head),
      tensor(of('self_attn.k_norm'), head),
      tensor(of('self_attn.o_proj'), hidden, heads * head),
      tensor(of('post_attention_layernorm'), hidden),
      tensor(of('mlp.gate_proj'), intermediate, hidden),
      tensor(of('mlp.up_proj'), intermediate, hidden),
      tensor(of('mlp.down_proj'), hidden, intermediate),
    ];
  });
  return [
    tensor('model.embed_tokens.weight', vocabulary, hidden),
    ...layers.flat(),
    tensor('model.norm.weight', hidden),
    ...(shape.tied ? [] : [tensor('lm_head.weight', vocabulary, hidden)]),
  ];
}
