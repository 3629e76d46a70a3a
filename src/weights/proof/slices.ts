/** The pieces of a tensor that a tensor-parallel worker may hold, as places in its file. */
import type { FileRange, Tensor } from '../tensor.js';
import type { Segment } from './types.js';

/** A tensor whose bytes lie in a file, and are some. */
export type FileTensor = Tensor & { readonly range: FileRange };

export function isFileTensor(tensor: Tensor): tensor is FileTensor {
  return tensor.range.kind === 'file' && tensor.range.byteLength > 0;
}

export function whole({ range }: FileTensor): Segment {
  const { path, offset, byteLength } = range;
  return { path, offset, blockBytes: byteLength, strideBytes: byteLength, blocks: 1 };
}

/** The index-th of count even slices along dimension 0; null when it does not divide. */
export function rows(tensor: FileTensor, index: number, count: number): Segment | null {
  const { path, offset, byteLength } = tensor.range;
  const bytes = byteLength / count;
  if (!divides(tensor.shape[0], count) || !Number.isInteger(bytes)) return null;
  return { path, offset: offset + index * bytes, blockBytes: bytes, strideBytes: bytes, blocks: 1 };
}

/** The index-th of count even slices along dimension 1; null when it does not divide. */
export function columns(tensor: FileTensor, index: number, count: number): Segment | null {
  const { path, offset, byteLength } = tensor.range;
  const blocks = tensor.shape[0];
  if (blocks === undefined || !divides(tensor.shape[1], count)) return null;
  const strideBytes = byteLength / blocks;
  const blockBytes = strideBytes / count;
  if (!Number.isInteger(blockBytes)) return null;
  return { path, offset: offset + index * blockBytes, blockBytes, strideBytes, blocks };
}

function divides(dimension: number | undefined, count: number): boolean {
  return dimension !== undefined && dimension % count === 0;
}
