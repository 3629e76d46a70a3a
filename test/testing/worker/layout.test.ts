import { describe, expect, it } from 'vitest';
import { combine, Fingerprint } from '../../../src/testing/worker/fingerprint.js';
import { type CheckpointTensor, layoutOf, type Slice } from '../../../src/testing/worker/layout.js';

const tensor = (name: string, ...shape: number[]): CheckpointTensor => ({
  name,
  dtypeName: 'bfloat16',
  itemSize: 2,
  shape,
});

const LAYER = 'model.layers.0';
const MODEL = [
  tensor('model.embed_tokens.weight', 100, 32),
  tensor(`${LAYER}.self_attn.v_proj.weight`, 4, 32),
  tensor(`${LAYER}.self_attn.q_proj.weight`, 8, 32),
  tensor(`${LAYER}.self_attn.k_proj.weight`, 4, 32),
  tensor(`${LAYER}.self_attn.o_proj.weight`, 32, 64),
  tensor(`${LAYER}.input_layernorm.weight`, 32),
  tensor('lm_head.weight', 100, 32),
];

const layout = (rank: number, size: number, tiedEmbeddings = false) =>
  layoutOf(MODEL, { rank, size, tiedEmbeddings });

/** Bytes of a parameter, cut out of checkpoint tensors by the slices. */
function materialize(
  rank: number,
  size: number,
  bytes: ReadonlyMap<string, Uint8Array>,
): Map<string, Uint8Array> {
  const { parameters, slices } = layout(rank, size);
  const held = new Map(parameters.map(({ name, byteLength }) => [name, new Uint8Array(byteLength)]));
  for (const [name, slice] of slices) {
    if (slice !== null) {
      held.get(slice.parameter)?.set(cut(slice, bytes.get(name)!), slice.targetOffset);
    }
  }
  return held;
}

function cut(slice: Slice, bytes: Uint8Array): Uint8Array {
  const rows = Array.from({ length: slice.rows }, (_, row) => {
    const at = (slice.firstRow + row) * slice.rowBytes + slice.columnOffset;
    return bytes.subarray(at, at + slice.columnBytes);
  });
  return Buffer.concat(rows);
}

const contents = (change = -1): ReadonlyMap<string, Uint8Array> =>
  new Map(
    MODEL.map(({ name, shape }, which) => {
      const length = shape.reduce((product, extent) => product * extent, 2);
      const bytes = Uint8Array.from({ length }, (_, index) => (index * 7 + which * 31) % 251);
      if (which === 4 && change >= 0) {
        bytes[change]! ^= 1;
      }
      return [name, bytes];
    }),
  );

describe('the layout of one worker', () => {
  it('fuses q, k and v by rows in that order, whatever the order of the checkpoint', () => {
    const bytes = contents();
    const held = materialize(0, 1, bytes);
    const of = (part: string) => bytes.get(`${LAYER}.self_attn.${part}_proj.weight`)!;
    expect(Buffer.from(held.get(`${LAYER}.self_attn.qkv_proj.weight`)!)).toEqual(
      Buffer.concat([of('q'), of('k'), of('v')]),
    );
  });

  it('concatenates the slices of each part at tensor-parallel size 2', () => {
    const bytes = contents();
    const held = materialize(1, 2, bytes);
    const half = (part: string) => {
      const whole = bytes.get(`${LAYER}.self_attn.${part}_proj.weight`)!;
      return whole.subarray(whole.length / 2);
    };
    expect(Buffer.from(held.get(`${LAYER}.self_attn.qkv_proj.weight`)!)).toEqual(
      Buffer.concat([half('q'), half('k'), half('v')]),
    );
  });

  it('splits row-parallel weights by columns and replicates norms', () => {
    const { slices } = layout(1, 2);
    expect(slices.get(`${LAYER}.self_attn.o_proj.weight`)).toMatchObject({
      columnOffset: 64,
      columnBytes: 64,
      rows: 32,
    });
    expect(slices.get(`${LAYER}.input_layernorm.weight`)).toMatchObject({ replicated: true, rows: 32 });
  });

  it('pads the vocabulary to a multiple of 64', () => {
    expect(layout(0, 2).parameters).toContainEqual({
      name: 'lm_head.weight',
      byteLength: 64 * 64,
      padded: false,
    });
    expect(layout(1, 2).parameters).toContainEqual({
      name: 'lm_head.weight',
      byteLength: 64 * 64,
      padded: true,
    });
    expect(layout(1, 2).slices.get('lm_head.weight')).toMatchObject({ firstRow: 64, rows: 36 });
  });

  it('drops a head that is tied to the embeddings', () => {
    expect(layout(0, 1, true).slices.get('lm_head.weight')).toBeNull();
  });

  it('refuses what it cannot split evenly', () => {
    expect(() => layout(0, 3)).toThrow('is not divisible by 3 workers');
  });
});

describe('the fingerprint', () => {
  const fingerprint = (size: number, bytes: ReadonlyMap<string, Uint8Array>): string =>
    combine(
      Array.from({ length: size }, (_, rank) => {
        const held = materialize(rank, size, bytes);
        const sum = new Fingerprint();
        for (const [name, slice] of layout(rank, size).slices) {
          if (slice !== null && (!slice.replicated || rank === 0)) {
            const end = slice.targetOffset + slice.rows * slice.columnBytes;
            sum.add(
              name,
              slice,
              slice.firstRow,
              held.get(slice.parameter)!.subarray(slice.targetOffset, end),
            );
          }
        }
        return sum.lanes;
      }),
    );

  it('is the same at every tensor-parallel size', () => {
    expect(fingerprint(2, contents())).toBe(fingerprint(1, contents()));
    expect(fingerprint(4, contents())).toBe(fingerprint(1, contents()));
  });

  it('changes with any one bit', () => {
    const seen = new Set([fingerprint(2, contents())]);
    for (let at = 0; at < 4096; at += 37) {
      seen.add(fingerprint(2, contents(at)));
    }
    expect(seen.size).toBe(1 + Math.ceil(4096 / 37));
  });
});
