import { describe, expect, it } from 'vitest';
import recorded from '../vectors/weight-checker-vllm-0.32.0.json' with { type: 'json' };
import { judged, type Matrix, matrix, sha256, single } from './engine.js';

describe('a parameter that cannot be proved', () => {
  const other = sha256([Buffer.from('other')]);
  const nothing = sha256([]);

  it.each<[string, Record<string, Matrix>, string, string, RegExp]>([
    [
      'is reported empty by kernels that repacked it',
      { 'a.weight': matrix('x', 8, 8) },
      'a.weight',
      nothing,
      /no bytes/,
    ],
    ['has no counterpart', { 'a.weight': matrix('x', 8, 8) }, 'rotary.cache', other, /not in the checkpoint/],
    [
      'has a padded vocabulary',
      { 'model.embed_tokens.weight': matrix('x', 100, 8) },
      'model.embed_tokens.weight',
      other,
      /100 rows are padded/,
    ],
    ['is quantised', { 'a.weight': matrix('x', 8, 8, 'F8_E4M3') }, 'a.weight', other, /quantised/],
    [
      'is fused of quantised parts',
      {
        'm.gate_proj.weight': matrix('x', 8, 8),
        'm.gate_proj.weight_scale': matrix('s', 8, null),
        'm.up_proj.weight': matrix('y', 8, 8),
      },
      'm.gate_up_proj.weight',
      other,
      /quantised/,
    ],
    [
      'is stored in a dtype apart',
      { 'a.weight': matrix('x', 8, 8), 'b.weight': matrix('y', 2, 2, 'F32') },
      'b.weight',
      other,
      /F32 in a checkpoint that is mostly BF16/,
    ],
    [
      'is without elements',
      { 'a.weight': matrix('x', 8, 8), 'b.weight': matrix('y', 0, 2) },
      'b.weight',
      nothing,
      /no bytes/,
    ],
  ])('%s', (_, entries, parameter, hash, reason) => {
    expect(judged(new Map(Object.entries(entries)), 1, single({ [parameter]: hash }))).toMatchObject({
      proved: [],
      mismatched: [],
      unprovable: [{ parameter, reason: expect.stringMatching(reason) }],
      complete: false,
    });
  });

  it.each<[string, string, Matrix, string, RegExp]>([
    [
      'does not divide among the workers',
      'a.weight',
      matrix('x', 9, 8),
      'dp0:pp0:pcp0:tp1',
      /a dimension of 9 does not divide evenly among 2/,
    ],
    ['is stored fused', 'a.qkv_proj.weight', matrix('x', 8, 8), 'dp0:pp0:pcp0:tp1', /stored fused/],
    [
      'is of a worker without a rank',
      'a.weight',
      matrix('x', 8, 8),
      'worker-1',
      /does not tell its tensor-parallel rank/,
    ],
  ])('with tensor parallelism %s', (_, name, weight, worker, reason) => {
    const reported = new Map([[worker, new Map([[name, other]])]]);
    expect(judged(new Map([[name, weight]]), 2, reported)).toMatchObject({
      mismatched: [],
      unprovable: [{ reason: expect.stringMatching(reason) }],
    });
  });

  it('of all these kinds is still proved when its bytes are the checkpoint’s', () => {
    const weight = matrix('x', 100, 8, 'F8_E4M3');
    const reported = single({ 'model.embed_tokens.weight': sha256(weight.elements) });
    expect(judged(new Map([['model.embed_tokens.weight', weight]]), 1, reported).proved).toHaveLength(1);
  });
});

describe('the report that vLLM 0.32.0 was recorded to give', () => {
  it('is read name by name: norms proved by their real hash, repacked linears not provable', () => {
    const ones = (n: number): Matrix => ({
      rows: n,
      columns: null,
      dtype: 'F32',
      elements: Array.from({ length: n }, () => Buffer.from([0, 0, 0x80, 0x3f])),
    });
    const model = new Map<string, Matrix>([
      ['model.embed_tokens.weight', matrix('e', 64, 64, 'F32')],
      ['model.norm.weight', ones(64)],
    ]);
    for (const i of [0, 1]) {
      const at = `model.layers.${i}`;
      for (const norm of ['input_layernorm', 'post_attention_layernorm'])
        model.set(`${at}.${norm}.weight`, ones(64));
      for (const norm of ['q_norm', 'k_norm']) model.set(`${at}.self_attn.${norm}.weight`, ones(32));
      for (const part of ['q', 'k', 'v', 'o'])
        model.set(`${at}.self_attn.${part}_proj.weight`, matrix(part, 64, 64, 'F32'));
      for (const part of ['gate', 'up', 'down'])
        model.set(`${at}.mlp.${part}_proj.weight`, matrix(part, 64, 64, 'F32'));
    }
    const reported = new Map<string, Map<string, string>>();
    for (const [key, hash] of Object.entries(recorded.checksums)) {
      const [, worker, parameter] = /^((?:[^:]+:){3}[^:]+):(.+)$/.exec(key) as unknown as [
        string,
        string,
        string,
      ];
      reported.set(worker, (reported.get(worker) ?? new Map()).set(parameter, hash));
    }
    const verdict = judged(model, 1, reported);
    expect(verdict.total).toBe(19);
    expect(verdict.proved.map(({ parameter }) => parameter).sort()).toEqual(
      [...reported.values()]
        .flatMap((names) => [...names.keys()].filter((name) => name.includes('norm')))
        .sort(),
    );
    expect(verdict.unprovable).toHaveLength(8);
    // The recorded embedding is not the one invented here, under neither of its two names.
    expect(verdict.mismatched.map(({ parameter }) => parameter)).toEqual([
      'model.embed_tokens.base_layer.weight',
      'lm_head.weight',
    ]);
    expect(verdict.unreported).toEqual([]);
  });
});
