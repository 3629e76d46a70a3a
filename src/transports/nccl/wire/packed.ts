/**
 * vLLM's packed format (contracts/vllm.md 1.7): tensors back to back in chunks, each chunk one broadcast of bytes. No header and no padding: both
 * sides derive the chunks from the list, so the rule here must be the receiver's to the byte.
 */

import { moduleOf } from '../../../weights/order.js';
import type { ByteRange, Tensor } from '../../../weights/tensor.js';
import type { Frame } from './frame.js';
import type { Encoding } from './refusal.js';

export const packed: Encoding = {
  name: 'packed',
  option: '--packed',
  refusal: ({ dtype, shape }) => {
    // The receiver computes bytes as elements times itemsize, which a packed 4-bit type does not follow.
    if (dtype.torchName === null || dtype.bits < 8) return `dtype ${dtype.name}`;
    // The receiver calls view() with no sizes for these, a TypeError.
    if (shape.length === 0) return 'a scalar, shape []';
    return null;
  },
};

/** Cuts the list into chunks: a chunk is closed after the tensor that makes its total strictly greater than bufferBytes. */
export function packedFrames(tensors: readonly Tensor[], bufferBytes: number): Frame[] {
  const frames: Frame[] = [];
  let ranges: ByteRange[] = [];
  let total = 0;
  for (const { range } of tensors) {
    ranges.push(range);
    total += range.byteLength;
    if (total > bufferBytes) {
      frames.push({ ranges, byteLength: total });
      ranges = [];
      total = 0;
    }
  }
  if (ranges.length > 0) frames.push({ ranges, byteLength: total });
  return frames;
}

/** The first tensor whose offset in its chunk is no multiple of its element size: the receiver's view() of it would raise. */
export function firstMisaligned(tensors: readonly Tensor[], bufferBytes: number): Tensor | null {
  let total = 0;
  for (const tensor of tensors) {
    if (total % elementBytes(tensor) !== 0) return tensor;
    total += tensor.range.byteLength;
    if (total > bufferBytes) total = 0;
  }
  return null;
}

/**
 * An order in which every tensor is aligned in its chunk, as near to the given one as it takes: as it is; with larger elements first inside
 * each module; or with the tensors whose bytes are no multiple of the largest element size at the end, larger elements first. The last
 * one always holds: up to there every offset is a multiple of every element size, and after it no size comes behind a smaller one.
 */
export function packedOrder(tensors: readonly Tensor[], bufferBytes: number): readonly Tensor[] {
  if (firstMisaligned(tensors, bufferBytes) === null) return tensors;
  const inModules = largestFirstInModules(tensors);
  if (firstMisaligned(inModules, bufferBytes) === null) return inModules;
  return oddOnesLast(tensors);
}

function elementBytes({ dtype }: Tensor): number {
  return dtype.bits / 8;
}

const largestFirst = (a: Tensor, b: Tensor) => elementBytes(b) - elementBytes(a);

function largestFirstInModules(tensors: readonly Tensor[]): Tensor[] {
  const ordered: Tensor[] = [];
  for (let from = 0; from < tensors.length; ) {
    const module = moduleOf((tensors[from] as Tensor).name);
    let to = from + 1;
    while (to < tensors.length && moduleOf((tensors[to] as Tensor).name) === module) to += 1;
    ordered.push(...tensors.slice(from, to).sort(largestFirst));
    from = to;
  }
  return ordered;
}

function oddOnesLast(tensors: readonly Tensor[]): Tensor[] {
  const largest = tensors.reduce((size, tensor) => Math.max(size, elementBytes(tensor)), 1);
  const isEven = (tensor: Tensor) => tensor.range.byteLength % largest === 0;
  const odd = tensors.filter((tensor) => !isEven(tensor)).sort(largestFirst);
  return [...tensors.filter(isEven), ...odd];
}
