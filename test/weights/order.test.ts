import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { moduleOf, orderForLoading } from '../../src/weights/order.js';

const order = (names: readonly string[]) =>
  orderForLoading(names.map((name) => ({ name }))).map(({ name }) => name);

describe('the order for loading', () => {
  it.each<[string, readonly string[]]>([
    [
      'Qwen3: the rest first, then layers by number, not by text',
      [
        'lm_head.weight',
        'model.embed_tokens.weight',
        'model.norm.weight',
        'model.layers.0.input_layernorm.weight',
        'model.layers.0.mlp.down_proj.weight',
        'model.layers.0.self_attn.k_norm.weight',
        'model.layers.0.self_attn.q_proj.weight',
        'model.layers.2.input_layernorm.weight',
        'model.layers.2.self_attn.q_proj.weight',
        'model.layers.10.input_layernorm.weight',
        'model.layers.27.mlp.up_proj.weight',
      ],
    ],
    [
      'Llama with biases: all tensors of a module side by side',
      [
        'model.embed_tokens.weight',
        'model.norm.weight',
        'model.layers.0.self_attn.k_proj.bias',
        'model.layers.0.self_attn.k_proj.weight',
        'model.layers.0.self_attn.q_proj.bias',
        'model.layers.0.self_attn.q_proj.weight',
        'model.layers.1.self_attn.k_proj.bias',
        'model.layers.1.self_attn.k_proj.weight',
      ],
    ],
    [
      'Mixtral: experts by number',
      [
        'model.embed_tokens.weight',
        'model.layers.3.block_sparse_moe.experts.0.w1.weight',
        'model.layers.3.block_sparse_moe.experts.0.w2.weight',
        'model.layers.3.block_sparse_moe.experts.2.w1.weight',
        'model.layers.3.block_sparse_moe.experts.10.w1.weight',
        'model.layers.3.block_sparse_moe.gate.weight',
        'model.layers.11.block_sparse_moe.experts.0.w1.weight',
      ],
    ],
    [
      'DeepSeek: block scales beside their weights, a module before what is inside it',
      [
        'model.embed_tokens.weight',
        'model.layers.3.mlp.experts.9.down_proj.weight',
        'model.layers.3.mlp.experts.9.down_proj.weight_scale_inv',
        'model.layers.3.mlp.experts.10.down_proj.weight',
        'model.layers.3.mlp.gate.e_score_correction_bias',
        'model.layers.3.mlp.gate.weight',
        'model.layers.3.self_attn.kv_a_proj_with_mqa.weight',
        'model.layers.3.self_attn.kv_a_proj_with_mqa.weight_scale_inv',
        'model.layers.61.embed_tokens.weight',
      ],
    ],
    [
      'a vision model: each stack of layers on its own',
      [
        'model.language_model.embed_tokens.weight',
        'visual.patch_embed.proj.weight',
        'model.language_model.layers.2.mlp.up_proj.weight',
        'model.language_model.layers.10.mlp.up_proj.weight',
        'visual.blocks.0.attn.qkv.weight',
        'visual.blocks.1.attn.qkv.weight',
      ],
    ],
  ])('%s', (_, names) => {
    expect(order(names.toReversed())).toEqual(names);
  });

  it('is that of the whole paths: numbers by value, a module before what is inside it', () => {
    const keyOf = (name: string) => {
      const parts = name.split('.');
      const leaf = parts.pop();
      const numbered = parts.map((part) => (/^[0-9]{1,9}$/.test(part) ? part.padStart(9, '0') : part));
      return `${numbered.join() === parts.join() ? 0 : 1}${numbered.join('\0')}\0\0${leaf}`;
    };
    const part = fc.constantFrom('layers', 'mlp', '0', '00', '2', '10', '1234567890', 'a', '1x', 'weight');
    const name = fc.array(part, { minLength: 1, maxLength: 7 }).map((parts) => parts.join('.'));
    fc.assert(
      fc.property(fc.uniqueArray(name, { maxLength: 60 }), (names) => {
        const expected = names
          .map((name) => ({ name, key: keyOf(name) }))
          .sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : a.name < b.name ? -1 : 1));
        expect(order(names)).toEqual(expected.map(({ name }) => name));
      }),
      { numRuns: 500 },
    );
  });

  it('is the same whatever the order of the files, and keeps each module in one piece', () => {
    const part = fc.constantFrom('model', 'layers', 'mlp', '0', '2', '10', 'a', 'weight', 'bias');
    const names = fc.uniqueArray(
      fc.array(part, { minLength: 1, maxLength: 6 }).map((parts) => parts.join('.')),
      { maxLength: 40 },
    );
    fc.assert(
      fc.property(
        names.chain((list) =>
          fc.tuple(fc.constant(list), fc.shuffledSubarray(list, { minLength: list.length })),
        ),
        ([list, shuffled]) => {
          const ordered = order(list);
          expect(order(shuffled)).toEqual(ordered);
          const changes = ordered.filter(
            (name, i) => i === 0 || moduleOf(ordered[i - 1] as string) !== moduleOf(name),
          );
          expect(changes.length).toBe(new Set(ordered.map(moduleOf)).size);
        },
      ),
    );
  });
});
