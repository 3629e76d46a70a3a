import { describe, expect, it } from 'vitest';
import {
  columnShare,
  judged,
  type Matrix,
  matrix,
  ranks,
  report,
  rowShare,
  sha256,
  single,
  type TinyOptions,
  tinyModel,
  workersOf,
} from './engine.js';

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
