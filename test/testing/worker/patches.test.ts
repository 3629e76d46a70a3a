import { describe, expect, it } from 'vitest';
import type { Elements, Parameters } from '../../../src/testing/worker/parameters.js';
import { applyPatches, type Patch } from '../../../src/testing/worker/patches.js';

/** Remembers what it was given. */
function parameters() {
  const patched: string[] = [];
  const stub: Pick<Parameters, 'requireLoadable' | 'patch'> = {
    requireLoadable: () => undefined,
    patch: async (name: string, { indices }: Elements) => {
      patched.push(`${name}:${[...indices].join()}`);
    },
  };
  return { patched, parameters: stub as Parameters };
}

const patch = (more: Partial<Patch> = {}): Patch => ({
  name: 'a',
  dtypeName: 'bfloat16',
  shape: [2, 2],
  indices: Int32Array.of(0, 3),
  values: Uint8Array.of(0x80, 0x3f, 0x00, 0x40),
  ...more,
});
const INVALID = 'Sparse checkpoint patches contain NaN values, out-of-range indices, or duplicate indices';

describe('the patches of a delta', () => {
  it('are applied in their order', async () => {
    const { patched, parameters: held } = parameters();
    await applyPatches([patch(), patch({ name: 'b', indices: Int32Array.of(2, 1) })], held, null);
    expect(patched).toEqual(['a:0,3', 'b:2,1']);
  });

  it.each([
    ['an index behind the end', { indices: Int32Array.of(0, 4) }, INVALID],
    ['a negative index', { indices: Int32Array.of(-1, 3) }, INVALID],
    ['an index twice', { indices: Int32Array.of(3, 3) }, INVALID],
    ['a NaN', { values: Uint8Array.of(0x80, 0x3f, 0xc0, 0xff) }, INVALID],
    [
      'another NaN',
      { dtypeName: 'float32', values: Uint8Array.of(0, 0, 0x80, 0x3f, 1, 0, 0x80, 0x7f) },
      INVALID,
    ],
    [
      'a type without NaN',
      { dtypeName: 'int32', values: new Uint8Array(8) },
      'a: sparse checkpoint patches require a floating dtype because NaN is the unchanged-value sentinel',
    ],
    [
      'a float8',
      { dtypeName: 'float8_e4m3fn', values: new Uint8Array(2) },
      `"index_copy_cpu" not implemented for 'Float8_e4m3fn'`,
    ],
  ] as const)('with %s are refused, and nothing was applied', async (_, more, words) => {
    const { patched, parameters: held } = parameters();
    await expect(applyPatches([patch(more as Partial<Patch>), patch()], held, null)).rejects.toThrow(words);
    expect(patched).toEqual([]);
  });

  it('may hold infinities', async () => {
    const { patched, parameters: held } = parameters();
    await applyPatches([patch({ values: Uint8Array.of(0x80, 0x7f, 0x80, 0xff) })], held, null);
    expect(patched).toHaveLength(1);
  });
});
