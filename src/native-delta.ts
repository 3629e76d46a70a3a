/** What crosses between src/native.ts and the addon about deltas. */

/** Work under way on threads of the addon. */
export interface NativeJob<Result> {
  readonly result: Promise<Result>;
  /** The result is rejected with WC_NATIVE_CLOSED within a second, also while a file hangs; harmless afterwards. */
  cancel(): void;
}

/** Pairs of ranges of equal length: of the version before, and of the new one. Pair i is entry i of each array. */
export interface DiffPairs {
  readonly files: readonly string[];
  /** Sizes in bytes that the files must have: anything else is WC_CHECKPOINT_CHANGED. */
  readonly fileSizes: Float64Array;
  /** Index in files. */
  readonly baseFile: Uint32Array;
  /** bytes */
  readonly baseOffset: Float64Array;
  readonly newFile: Uint32Array;
  readonly newOffset: Float64Array;
  /** bytes: a multiple of the element's */
  readonly length: Float64Array;
  /** 1, 2, 4 or 8: what is compared, and sent, as a whole. */
  readonly elementBytes: Uint8Array;
  /** Threads; 0 takes one a core. */
  readonly threads: number;
}

/** Which elements differ, spooled as vLLM's sparse_nccl broadcasts them. A pair has at most 2^31 - 1 elements. */
export interface DiffJob extends DiffPairs {
  /** A pair: with more changed elements it is dense, and nothing of it is spooled. null spools all. */
  readonly limit: Float64Array | null;
  /** Paths of two files to create, which must not exist: int32 indices, and the new values. Removed unless all goes well. */
  readonly indicesPath: string;
  readonly valuesPath: string;
  /** Buffers of all threads together, in bytes; at least 1 MiB. Fewer threads run where it does not suffice for all. */
  readonly memoryBytes: number;
}

/** Entry i is of pair i. */
export interface NativeDiff {
  /** Changed elements; of a dense pair as many as were counted before it was given up. */
  readonly changed: Float64Array;
  /** Where its indices begin in indicesPath: `changed` ascending little-endian int32, in units of elements, from 0 at the pair's begin. */
  readonly indicesOffset: Float64Array;
  /** Where its new values begin in valuesPath: `changed` elements. */
  readonly valuesOffset: Float64Array;
  /** 1: more changed than its limit. */
  readonly dense: Uint8Array;
}

/** In baseFile: the version before has nothing that the pair could be based on. */
export const NO_BASE = 0xffffffff;

/** In target: nothing is made of the pair, since somebody else has put it where it belongs; its digest is all zero. */
export const NO_TARGET = 0xffffffff;

/** A delta file (docs/delta-format.md) from the version before to the new one; baseFile may be NO_BASE. */
export interface EncodeDeltaJob extends DiffPairs {
  /** Path of a file to create, which must not exist. Removed unless all goes well. */
  readonly deltaPath: string;
  readonly codec: 'none' | 'zstd';
  /** Whether it must be on the disk when this resolves. */
  readonly sync: boolean;
}

export interface EncodedDelta {
  /** Size of the file. */
  readonly byteLength: number;
  /** SHA-256 of the file: 32 bytes. */
  readonly digest: Uint8Array;
  /** Bytes that each pair takes in the file. */
  readonly stored: Float64Array;
  /** Changed elements of each pair; all of those without a base. */
  readonly changed: Float64Array;
}

/** New files from the version before and a delta. The pairs must be those that the delta was made of, in their order. */
export interface ApplyDeltaJob extends Omit<DiffPairs, 'newFile' | 'newOffset'> {
  readonly deltaPath: string;
  /** Paths of files to create, which must not exist. Removed unless all goes well. */
  readonly targets: readonly string[];
  /** The first bytes of each. */
  readonly targetHeads: readonly Uint8Array[];
  /** bytes */
  readonly targetSizes: Float64Array;
  /** A pair's new bytes go to targetOffset of targets[target]; target may be NO_TARGET. */
  readonly target: Uint32Array;
  readonly targetOffset: Float64Array;
  /** Whether the files must be on the disk when this resolves. */
  readonly sync: boolean;
}
