/**
 * What a vLLM worker does with a declared list, written from contracts/vllm.md 1.6 and 1.7 and from nothing of ours: the broadcasts that it
 * enters, and where in each it looks for which tensor. Throws where the worker would.
 */
import type { TensorSpec } from '../../../../src/engines/admin.js';

const ITEM_SIZE: Readonly<Record<string, number>> = {
  bool: 1,
  uint8: 1,
  int8: 1,
  float8_e4m3fn: 1,
  float8_e5m2: 1,
  float8_e8m0fnu: 1,
  float8_e4m3fnuz: 1,
  float8_e5m2fnuz: 1,
  int16: 2,
  uint16: 2,
  float16: 2,
  bfloat16: 2,
  int32: 4,
  uint32: 4,
  float32: 4,
  int64: 8,
  uint64: 8,
  float64: 8,
  complex64: 8,
};
const NCCL_TYPES = [
  'int8',
  'uint8',
  'int32',
  'int64',
  'float16',
  'float32',
  'float64',
  'bfloat16',
  'float8_e4m3fn',
];

export interface Received {
  readonly name: string;
  /** Bytes from the beginning of the broadcast. */
  readonly offset: number;
  readonly byteLength: number;
}

export interface Broadcast {
  readonly byteLength: number;
  readonly tensors: readonly Received[];
}

function itemSize(dtypeName: string): number {
  const size = ITEM_SIZE[dtypeName];
  if (size === undefined) throw new Error(`AttributeError: module 'torch' has no attribute '${dtypeName}'`);
  return size;
}

const bytesOf = ({ dtypeName, shape }: TensorSpec) =>
  shape.reduce((n, dimension) => n * dimension, itemSize(dtypeName));

export function receivePerTensor(list: readonly TensorSpec[]): Broadcast[] {
  return list.map((spec) => {
    if (!NCCL_TYPES.includes(spec.dtypeName))
      throw new Error(`ValueError: Unsupported dtype torch.${spec.dtypeName}`);
    const byteLength = bytesOf(spec);
    return { byteLength, tensors: [{ name: spec.name, offset: 0, byteLength }] };
  });
}

export function receivePacked(list: readonly TensorSpec[], bufferBytes: number): Broadcast[] {
  const broadcasts: Broadcast[] = [];
  const waiting = [...list];
  while (waiting.length > 0) {
    const chunk: TensorSpec[] = [];
    let total = 0;
    do {
      const spec = waiting.shift() as TensorSpec;
      chunk.push(spec);
      total += bytesOf(spec);
    } while (total <= bufferBytes && waiting.length > 0);
    let offset = 0;
    const tensors = chunk.map((spec) => {
      if (spec.shape.length === 0)
        throw new Error('TypeError: view() received an invalid combination of arguments');
      if (offset % itemSize(spec.dtypeName) !== 0) {
        throw new Error(`RuntimeError: self.storage_offset() must be divisible to view ${spec.name}`);
      }
      const received = { name: spec.name, offset, byteLength: bytesOf(spec) };
      offset += received.byteLength;
      return received;
    });
    broadcasts.push({ byteLength: total, tensors });
  }
  return broadcasts;
}
