import { describe, expect, it } from 'vitest';
import type { Checksums } from '../../src/engines/admin.js';
import { candidatesFor, judge, narrow, toHashJob } from '../../src/weights/proof.js';
import {
  asFile,
  columnShare,
  digestsOf,
  type Matrix,
  type Model,
  matrix,
  report,
  rowShare,
  sha256,
  type TinyOptions,
  tinyModel,
  workerParameters,
} from './proof-engine.js';
import recorded from './vectors/weight-checker-vllm-0.32.0.json' with { type: 'json' };

const ranks = (count: number) => Array.from({ length: count }, (_, rank) => rank);

function judged(model: Model, tpSize: number, reported: Checksums) {
  const { tensors, bytes } = asFile(model);
  const plan = candidatesFor(tensors, tpSize);
  return judge(plan, digestsOf(plan, { '/model.safetensors': bytes }), reported);
}

const workersOf = (model: Model, tpSize: number, sets = tpSize) =>
  ranks(tpSize).map((rank) => workerParameters(model, rank, tpSize, sets));

/** A report of one worker of an engine without tensor parallelism. */
const single = (parameters: Record<string, string>): Checksums =>
  new Map([['dp0:pp0:pcp0:tp0', new Map(Object.entries(parameters))]]);

describe('an engine that holds the checkpoint', () => {
  it.each<[number, number, TinyOptions]>([
    [1, 1, {}],
    [2, 2, {}],
    [4, 4, {}],
    [4, 2, { keyValueRows: 2 }],
    [8, 1, { keyValueRows: 1 }],
    [8, 2, { keyValueRows: 8 }],
  ])('is proved in full with %d workers and %d sets of key and value heads', (tpSize, sets, options) => {
    const model = tinyModel(options);
    const verdict = judged(model, tpSize, report(workersOf(model, tpSize, sets)));
    expect(verdict).toMatchObject({
      mismatched: [],
      unprovable: [],
      unreported: [],
      complete: true,
      workers: tpSize,
    });
    expect(verdict.proved).toHaveLength(verdict.total);
    expect(verdict.total).toBe(tpSize * (2 + 2 * 6));
  });

  it('is told what each parameter was found to be', () => {
    const model = tinyModel();
    const { proved } = judged(model, 2, report(workersOf(model, 2)));
    const by = (worker: number, parameter: string) =>
      proved.find((entry) => entry.worker.endsWith(`tp${worker}`) && entry.parameter === parameter)?.by;
    expect(by(1, 'model.norm.weight')).toBe('the whole tensor');
    expect(by(1, 'model.embed_tokens.weight')).toBe('rows, slice 2 of 2');
    expect(by(0, 'model.layers.1.mlp.down_proj.weight')).toBe('columns, slice 1 of 2');
    expect(by(1, 'model.layers.0.self_attn.qkv_proj.bias')).toBe(
      'rows of q_proj, k_proj, v_proj, slice 2 of 2',
    );
  });

  it('may split its layers over a pipeline', () => {
    const model = tinyModel();
    const all = [...(workersOf(model, 1)[0] as Map<string, Buffer[]>)].map(
      ([name, bytes]) => [name, sha256(bytes)] as const,
    );
    const first = all.filter(([name]) => /embed|layers\.0/.test(name));
    const reported = new Map([
      ['dp0:pp0:pcp0:tp0', new Map(first)],
      ['dp0:pp1:pcp0:tp0', new Map(all.filter((entry) => !first.includes(entry)))],
    ]);
    expect(judged(model, 1, reported)).toMatchObject({ complete: true, workers: 2, total: all.length });
  });

  it('may wrap its layers for adapters', () => {
    const model = new Map([['model.layers.0.mlp.down_proj.weight', matrix('x', 16, 24)]]);
    const hash = sha256((model.get('model.layers.0.mlp.down_proj.weight') as Matrix).elements);
    expect(
      judged(model, 1, single({ 'model.layers.0.mlp.down_proj.base_layer.weight': hash })),
    ).toMatchObject({ complete: true });
  });

  it('may put its modules under another prefix, as vision-language models do', () => {
    const named = (prefix: string) => (name: string) => name.replace(/^model/, prefix);
    const model = tinyModel();
    const stored = new Map([...model].map(([name, weight]) => [named('model.language_model')(name), weight]));
    const [held] = workersOf(model, 1) as [Map<string, Buffer[]>];
    const reported = new Map([...held].map(([name, bytes]) => [named('language_model.model')(name), bytes]));
    expect(judged(stored, 1, report([reported]))).toMatchObject({ complete: true });
    // The place is a guess, so other bytes there prove nothing, and accuse nobody.
    reported.set('language_model.model.norm.weight', [Buffer.from('xy')]);
    expect(judged(stored, 1, report([reported]))).toMatchObject({
      mismatched: [],
      unprovable: [
        { reason: expect.stringMatching(/named otherwise .*model\.language_model\.norm\.weight/) },
      ],
    });
  });

  it.each([
    ['model.embed_tokens.weight', 'lm_head.weight'],
    ['lm_head.weight', 'model.embed_tokens.weight'],
  ])('may report a tied %s as %s', (stored, reported) => {
    const weight = matrix('x', 64, 16);
    expect(
      judged(new Map([[stored, weight]]), 1, single({ [reported]: sha256(weight.elements) })),
    ).toMatchObject({ complete: true });
  });

  it('may stack experts, sliced or shared out among the workers', () => {
    const expert = (e: number, part: string) => `model.layers.0.mlp.experts.${e}.${part}_proj.weight`;
    const model = new Map(
      [10, 2, 0, 1].flatMap((e) => [
        [expert(e, 'gate'), matrix(`g${e}`, 8, 4)] as const,
        [expert(e, 'up'), matrix(`u${e}`, 8, 4)] as const,
        [expert(e, 'down'), matrix(`d${e}`, 4, 8)] as const,
      ]),
    );
    const get = (e: number, part: string) => model.get(expert(e, part)) as Matrix;
    const order = [0, 1, 2, 10];
    const stacked = (share: (m: Matrix, along: 'rows' | 'columns') => readonly Buffer[], experts = order) =>
      new Map([
        [
          'model.layers.0.mlp.experts.w13_weight',
          experts.flatMap((e) => [...share(get(e, 'gate'), 'rows'), ...share(get(e, 'up'), 'rows')]),
        ],
        [
          'model.layers.0.mlp.experts.w2_weight',
          experts.flatMap((e) => [...share(get(e, 'down'), 'columns')]),
        ],
      ]);
    const whole = (m: Matrix) => m.elements;
    expect(judged(model, 1, report([stacked(whole)]))).toMatchObject({ complete: true });
    const sliced = ranks(2).map((rank) =>
      stacked((m, along) => (along === 'rows' ? rowShare : columnShare)(m, rank, 2)),
    );
    expect(judged(model, 2, report(sliced))).toMatchObject({ complete: true });
    expect(judged(model, 2, report([stacked(whole, [0, 1]), stacked(whole, [2, 10])]))).toMatchObject({
      complete: true,
    });
    // Kernels may want up before gate: no proof, but no accusation either.
    const swapped = new Map([
      [
        'model.layers.0.mlp.experts.w13_weight',
        order.flatMap((e) => [...whole(get(e, 'up')), ...whole(get(e, 'gate'))]),
      ],
    ]);
    expect(judged(model, 1, report([swapped]))).toMatchObject({
      mismatched: [],
      unprovable: [{ reason: expect.stringContaining('experts') }],
      complete: false,
    });
  });
});

describe('an engine that holds other bytes', () => {
  it.each([1, 2])('is found out, worker and parameter, with %d workers', (tpSize) => {
    const model = tinyModel();
    const workers = workersOf(model, tpSize);
    const parameter = 'model.layers.1.mlp.gate_up_proj.weight';
    const held = workers[tpSize - 1] as Map<string, Buffer[]>;
    held.set(parameter, (held.get(parameter) as Buffer[]).with(7, Buffer.from([1, 2])));
    const verdict = judged(model, tpSize, report(workers));
    expect(verdict.mismatched).toMatchObject([{ worker: `dp0:pp0:pcp0:tp${tpSize - 1}`, parameter }]);
    expect(verdict.mismatched[0]?.tried).toContain('gate_proj, up_proj, concatenated');
    expect(verdict).toMatchObject({ unprovable: [], complete: false });
    expect(verdict.proved).toHaveLength(verdict.total - 1);
  });

  it('is found out when it still serves the old version', () => {
    const verdict = judged(tinyModel({ seed: 'new' }), 2, report(workersOf(tinyModel({ seed: 'old' }), 2)));
    expect(verdict.mismatched).toHaveLength(verdict.total);
  });

  it('is found out when a worker holds the slice of another', () => {
    const model = tinyModel();
    const [first, second] = workersOf(model, 2) as [Map<string, Buffer[]>, Map<string, Buffer[]>];
    const verdict = judged(model, 2, report([second, first]));
    expect(verdict.proved.every(({ by }) => by === 'the whole tensor')).toBe(true);
    expect(verdict.mismatched.map(({ parameter }) => parameter)).toContain(
      'model.layers.0.self_attn.o_proj.weight',
    );
  });

  it('is found out when it has the parts of a fused parameter in another order', () => {
    const model = tinyModel({ layers: 1 });
    const part = (name: string) => (model.get(`model.layers.0.mlp.${name}.weight`) as Matrix).elements;
    const wrong = sha256([...part('up_proj'), ...part('gate_proj')]);
    expect(
      judged(model, 1, single({ 'model.layers.0.mlp.gate_up_proj.weight': wrong })).mismatched,
    ).toHaveLength(1);
  });
});

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

describe('tensors that no worker reports', () => {
  it('are listed, and the proof is not complete', () => {
    const model = tinyModel({ layers: 1 });
    const [held] = workersOf(model, 1) as [Map<string, Buffer[]>];
    held.delete('model.layers.0.mlp.gate_up_proj.weight');
    expect(judged(model, 1, report([held]))).toMatchObject({
      unreported: ['model.layers.0.mlp.gate_proj.weight', 'model.layers.0.mlp.up_proj.weight'],
      complete: false,
    });
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

describe('a narrowed plan', () => {
  const first = tinyModel({ seed: 'first' });
  const next = tinyModel({ seed: 'next' });
  const learn = (tpSize: number) => {
    const plan = candidatesFor(asFile(next, '/next').tensors, tpSize);
    return { full: plan, narrow: narrow(plan, judged(first, tpSize, report(workersOf(first, tpSize)))) };
  };

  it('hashes for the next checkpoint only the forms that fitted', () => {
    const { full, narrow } = learn(2);
    const { bytes } = asFile(next, '/next');
    expect(toHashJob(narrow).totalBytes).toBeLessThan(toHashJob(full).totalBytes / 2);
    const verdict = judge(narrow, digestsOf(narrow, { '/next': bytes }), report(workersOf(next, 2)));
    expect(verdict).toMatchObject({ complete: true, mismatched: [], unprovable: [] });
    // Without tensor parallelism every byte is then hashed exactly once.
    expect(toHashJob(learn(1).narrow).totalBytes).toBe(bytes.length);
  });

  it('still finds out an engine that holds the earlier version', () => {
    const { narrow } = learn(2);
    const verdict = judge(
      narrow,
      digestsOf(narrow, { '/next': asFile(next, '/next').bytes }),
      report(workersOf(first, 2)),
    );
    expect(verdict.mismatched).toHaveLength(verdict.total);
  });

  it('keeps every form that had the same hash, since the next weights may tell them apart', () => {
    const zeros = (m: Matrix): Matrix => ({ ...m, elements: m.elements.map((e) => Buffer.alloc(e.length)) });
    const weight = matrix('x', 8, 8);
    const before = new Map([['a.weight', zeros(weight)]]);
    const after = new Map([['a.weight', weight]]);
    const held = (model: Model) =>
      ranks(2).map((rank) => new Map([['a.weight', columnShare(model.get('a.weight') as Matrix, rank, 2)]]));
    const plan = narrow(candidatesFor(asFile(after).tensors, 2), judged(before, 2, report(held(before))));
    const verdict = judge(
      plan,
      digestsOf(plan, { '/model.safetensors': asFile(after).bytes }),
      report(held(after)),
    );
    expect(verdict).toMatchObject({ complete: true });
  });

  it('remembers why a parameter could not be proved', () => {
    const model = new Map([
      ['a.weight', matrix('x', 8, 8)],
      ['b.weight', matrix('y', 8, 8)],
    ]);
    const reported = single({
      'a.weight': sha256([]),
      'b.weight': sha256((model.get('b.weight') as Matrix).elements),
    });
    const plan = narrow(candidatesFor(asFile(model).tensors, 1), judged(model, 1, reported));
    expect(plan.candidates).toHaveLength(1);
    const verdict = judge(plan, digestsOf(plan, { '/model.safetensors': asFile(model).bytes }), reported);
    expect(verdict.unprovable).toMatchObject([
      { parameter: 'a.weight', reason: expect.stringContaining('no bytes') },
    ]);
    expect(verdict.proved).toHaveLength(1);
  });
});
