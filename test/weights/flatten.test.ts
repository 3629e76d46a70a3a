import { describe, expect, it } from 'vitest';
import { flattenPlan } from '../../src/weights/flatten.js';
import type { ByteRange } from '../../src/weights/tensor.js';

const staging = { slots: 2, slotBytes: 4096, pieces: 4, pieceBytes: 4096 };
const files = [
  { path: '/a', byteLength: 100 },
  { path: '/b', byteLength: 50 },
];
const file = (path: string, offset: number, byteLength: number): ByteRange => ({
  kind: 'file',
  path,
  offset,
  byteLength,
});
const host = (...bytes: number[]): ByteRange => ({
  kind: 'host',
  bytes: Uint8Array.from(bytes),
  byteLength: bytes.length,
});

describe('a flattened plan', () => {
  it('joins ranges that continue each other, inside a frame and not across', () => {
    const plan = flattenPlan(
      [
        { ranges: [file('/a', 10, 5), file('/a', 15, 5), file('/b', 20, 5), file('/a', 20, 5)] },
        { ranges: [file('/a', 25, 5)] },
      ],
      files,
      staging,
    );
    expect(plan.files).toEqual(['/a', '/b']);
    expect([...plan.fileSizes]).toEqual([100, 50]);
    expect([...plan.rangeSource]).toEqual([0, 1, 0, 0]);
    expect([...plan.rangeOffset]).toEqual([10, 20, 20, 25]);
    expect([...plan.rangeLength]).toEqual([10, 5, 5, 5]);
    expect([...plan.frameRanges]).toEqual([3, 1]);
    expect(plan).toMatchObject({ ...staging, root: 0 });
  });

  it('does not join ranges with a gap between them, or out of order', () => {
    const plan = flattenPlan(
      [{ ranges: [file('/a', 0, 5), file('/a', 6, 5), file('/a', 1, 5)] }],
      files,
      staging,
    );
    expect([...plan.rangeOffset]).toEqual([0, 6, 1]);
    expect([...plan.frameRanges]).toEqual([3]);
  });

  it('keeps a frame of no bytes, with no range', () => {
    const plan = flattenPlan(
      [{ ranges: [file('/a', 0, 0)] }, { ranges: [] }, { ranges: [host(1)] }],
      files,
      staging,
    );
    expect([...plan.frameRanges]).toEqual([0, 0, 1]);
  });

  it('gathers host bytes and device buffers', () => {
    const buffer = {};
    const device = (offset: number): ByteRange => ({ kind: 'device', buffer, offset, byteLength: 4 });
    const plan = flattenPlan([{ ranges: [host(1, 2), device(8), host(3), device(0)] }], files, staging);
    expect([...plan.rangeKind]).toEqual([2, 1, 2, 1]);
    expect([...plan.rangeOffset]).toEqual([0, 8, 2, 0]);
    expect([...plan.hostBytes]).toEqual([1, 2, 3]);
    expect(plan.deviceBuffers).toEqual([buffer]);
  });

  it('refuses a range outside the files it was given', () => {
    for (const range of [file('/c', 0, 1), file('/b', 49, 2)]) {
      expect(() => flattenPlan([{ ranges: [range] }], files, staging)).toThrow(
        expect.objectContaining({ code: 'WC_NATIVE_ARGUMENT' }),
      );
    }
  });
});
