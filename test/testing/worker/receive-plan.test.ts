import { describe, expect, it } from 'vitest';
import type { ReceiveOrder } from '../../../src/testing/server/transfer-info.js';
import { broadcastsOf, requireViewable } from '../../../src/testing/worker/receive-plan.js';

function order(
  bufferBytes: number | null,
  ...tensors: readonly (readonly [name: string, dtype: string, ...shape: number[]])[]
): ReceiveOrder {
  return {
    names: tensors.map(([name]) => name),
    dtypeNames: tensors.map(([, dtype]) => dtype),
    shapes: tensors.map(([, , ...shape]) => shape),
    packed: bufferBytes !== null,
    bufferBytes: bufferBytes ?? 0,
  };
}

// contracts/vllm.md appendix B.
const WORKED = [
  ['a', 'uint8', 4],
  ['b', 'bfloat16', 3],
  ['c', 'float32', 1],
  ['d', 'uint8', 20],
  ['e', 'bfloat16', 1],
] as const;

describe('the packed receive', () => {
  it('closes a chunk when its total is strictly greater than the buffer', () => {
    const chunks = [...broadcastsOf(order(10, ...WORKED))];
    expect(chunks.map((chunk) => chunk.byteLength)).toEqual([14, 20, 2]);
    expect(chunks[0]?.tensors.map((tensor) => [tensor.name, tensor.offset])).toEqual([
      ['a', 0],
      ['b', 4],
      ['c', 10],
    ]);
  });

  it('is one broadcast when the buffer holds everything', () => {
    expect([...broadcastsOf(order(1 << 30, ...WORKED))].map((chunk) => chunk.byteLength)).toEqual([36]);
  });

  it('is no broadcast for an empty list', () => {
    expect([...broadcastsOf(order(10))]).toEqual([]);
  });

  it('cannot view a tensor at an offset that its element size does not divide', () => {
    const [chunk] = broadcastsOf(order(10, ...WORKED));
    const [a, b, c] = chunk?.tensors ?? [];
    expect(() => requireViewable(a!)).not.toThrow();
    expect(() => requireViewable(b!)).not.toThrow();
    expect(() => requireViewable(c!)).toThrow(
      'self.storage_offset() must be divisible by 4 to view Byte as Float (different element sizes), but got 10',
    );
  });

  it('cannot view a tensor without dimensions', () => {
    const [chunk] = broadcastsOf(order(10, ['scale', 'float32']));
    expect(() => requireViewable(chunk!.tensors[0]!)).toThrow('view() received an invalid combination');
  });
});

describe('the per-tensor receive', () => {
  it('is one broadcast a tensor', () => {
    expect([...broadcastsOf(order(null, ...WORKED))].map((item) => item.byteLength)).toEqual([
      4, 6, 4, 20, 2,
    ]);
  });

  it.each(['bool', 'int16', 'float8_e5m2'])('cannot receive %s', (dtype) => {
    expect(() => [...broadcastsOf(order(null, ['x', dtype, 2]))]).toThrow(
      `Unsupported dtype: torch.${dtype}`,
    );
  });
});

it('meets an unknown dtype only after the broadcasts before it', () => {
  const broadcasts = broadcastsOf(order(null, ['a', 'uint8', 4], ['b', 'torch.uint8', 4]));
  expect(broadcasts.next().value).toMatchObject({ byteLength: 4 });
  expect(() => broadcasts.next()).toThrow("module 'torch' has no attribute 'torch.uint8'");
});
