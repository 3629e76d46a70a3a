import { describe, expect, it } from 'vitest';
import {
  MAX_ELEMENTS,
  requireIndexable,
  sparseBytes,
  sparseSteps,
  type TensorChanges,
} from '../../../../src/transports/nccl/wire/sparse.js';
import { runToEnd } from '../../../../src/weights/yielding.js';
import { tensorOf } from '../../../weights/files.js';

const change = (name: string, updates: number, dtype = 'BF16', shape = [64, 64]): TensorChanges => ({
  tensor: tensorOf(name, dtype, shape),
  updates,
  indices: { path: '/spool/i', offset: 100 },
  values: { path: '/spool/v', offset: 50 },
});
const plan = (changes: readonly TensorChanges[], all = changes.map(({ tensor }) => tensor)) =>
  runToEnd(sparseSteps(changes, all));

describe('a delta', () => {
  it('is two frames a tensor that changed, indices and values, each one place of the spool', () => {
    const planned = plan([change('a', 3), change('b', 0), change('c', 2, 'F32')]);
    expect(planned.tensors).toEqual([
      { name: 'a', dtypeName: 'bfloat16', shape: [64, 64] },
      { name: 'c', dtypeName: 'float32', shape: [64, 64] },
    ]);
    expect(planned.updates).toEqual([3, 2]);
    const range = (path: string, offset: number, byteLength: number) => ({
      ranges: [{ kind: 'file', path, offset, byteLength }],
      byteLength,
    });
    expect(planned.frames).toEqual([
      range('/spool/i', 100, 12),
      range('/spool/v', 50, 6),
      range('/spool/i', 100, 8),
      range('/spool/v', 50, 8),
    ]);
    expect(planned).toMatchObject({ byteLength: 34, largestFrame: 12 });
  });

  it('costs six bytes an element of bf16', () => {
    expect(sparseBytes([change('a', 10), change('b', 1, 'F64')])).toBe(60 + 12);
  });

  it('of nothing is the smallest tensor that could be sent, with no updates: the receiver refuses an empty list', () => {
    const all = [
      tensorOf('big', 'BF16', [64]),
      tensorOf('small', 'BF16', [2]),
      tensorOf('mask', 'BOOL', [1]),
      tensorOf('scale', 'F8_E4M3', [1]),
    ];
    const planned = plan([], all);
    expect(planned).toMatchObject({ updates: [0], byteLength: 0, tensors: [{ name: 'small' }] });
    expect(planned.frames.map(({ byteLength }) => byteLength)).toEqual([0, 0]);
  });

  it('of a model without floating-point tensors can not be told', () => {
    expect(() => plan([], [tensorOf('mask', 'BOOL', [1])])).toThrow(
      expect.objectContaining({ code: 'WC_TENSOR_UNSENDABLE' }),
    );
  });

  it.each(['I64', 'BOOL', 'U8', 'F8_E4M3', 'F8_E5M2', 'C64', 'F4'])(
    'with changes in a tensor of %s is refused by name; one that did not change does no harm',
    (dtype) => {
      expect(() => plan([change('a', 1), change('odd', 1, dtype)])).toThrow(/odd \(dtype/);
      expect(plan([change('a', 1), change('odd', 0, dtype)]).updates).toEqual([1]);
    },
  );

  it.each([['F16'], ['BF16'], ['F32'], ['F64']])('carries %s', (dtype) => {
    expect(plan([change('a', 1, dtype)]).updates).toEqual([1]);
  });
});

describe('flat int32 indices', () => {
  it('reach tensors of 2^31 - 1 elements, and larger ones are refused by name', () => {
    expect(MAX_ELEMENTS).toBe(2_147_483_647);
    requireIndexable([tensorOf('most', 'U8', [MAX_ELEMENTS])]);
    expect(() =>
      requireIndexable([tensorOf('a', 'U8', [1]), tensorOf('huge', 'U8', [2 ** 16, 2 ** 15])]),
    ).toThrow(
      expect.objectContaining({
        code: 'WC_TENSOR_UNSENDABLE',
        message: expect.stringContaining('huge (2147483648 elements'),
      }),
    );
  });
});
