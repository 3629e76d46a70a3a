import type { DType } from './dtype.js';

/** Bytes of a file, by path; offset and byteLength in bytes. */
export interface FileRange {
  readonly kind: 'file';
  readonly path: string;
  readonly offset: number;
  readonly byteLength: number;
}

/** Bytes of device memory that the addon owns or has opened. */
export interface DeviceRange {
  readonly kind: 'device';
  readonly buffer: object;
  readonly offset: number;
  readonly byteLength: number;
}

/** A few bytes of host memory (headers, counts, pickles). */
export interface HostRange {
  readonly kind: 'host';
  readonly bytes: Uint8Array;
  readonly byteLength: number;
}

/** A place where bytes are. Nothing above the addon ever touches the bytes themselves. */
export type ByteRange = FileRange | DeviceRange | HostRange;

/** A named, typed, shaped piece of a checkpoint: contiguous, row-major, little-endian. */
export interface Tensor {
  /** Checkpoint (Hugging Face) name. */
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly range: ByteRange;
}

/** Elements of a tensor of this shape; exact up to 2^53. */
export function elementsOf(shape: readonly number[]): number {
  return shape.reduce((product, extent) => product * extent, 1);
}
