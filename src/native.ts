/**
 * The addon: the only module that loads it. Plain data crosses; every optional value is `null`, never `undefined`.
 * Handles are opaque objects; closing twice is harmless. Errors carry a `code` of the table in errors.ts.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { type ErrorCode, WeightcastError } from './errors.js';
import type {
  ApplyDeltaJob,
  DiffJob,
  EncodeDeltaJob,
  EncodedDelta,
  NativeDiff,
  NativeJob,
} from './native-delta.js';

export * from './native-delta.js';

export interface DeviceInfo {
  readonly index: number;
  readonly name: string;
  /** 'GPU-xxxxxxxx-xxxx-…' */
  readonly uuid: string;
  /** bytes */
  readonly totalMemory: number;
}

/** libcuda and libnccl, opened. */
export interface NativeRuntime {
  readonly cudaLibrary: string;
  readonly ncclLibrary: string;
  /** 10000 major + 100 minor + patch, as ncclGetVersion gives it. */
  readonly ncclVersion: number;
  /** cuDriverGetVersion: 13000 is CUDA 13.0. */
  readonly cudaDriverVersion: number;
  /** True when the libraries say that they emulate. Only for labels: nothing behaves differently. */
  readonly emulated: boolean;
  devices(): DeviceInfo[];
  /** Free and total bytes of a device. Without `timeoutMs` this and the next two may last for the limit of calls (`open`). */
  memory(device: number, timeoutMs?: number | null): Promise<{ free: number; total: number }>;
  /** ncclGetUniqueId: 128 bytes. This process must live until every rank has joined. */
  uniqueId(timeoutMs?: number | null): Promise<Uint8Array>;
  /** Starts the thread that owns one communicator, with the device's primary context current. */
  communicator(device: number, timeoutMs?: number | null): Promise<NativeCommunicator>;
}

export type CommunicatorState = 'idle' | 'initializing' | 'ready' | 'failed' | 'aborted' | 'closed';

export interface NativeCommunicator {
  readonly state: CommunicatorState;
  /** Joins the group; non-blocking inside, ends by an abort at the deadline (WC_NCCL_TIMEOUT). */
  init(options: { uniqueId: Uint8Array; worldSize: number; rank: number; timeoutMs: number }): Promise<void>;
  /** Sum over ranks of float32 values. */
  allReduce(values: Float32Array, timeoutMs: number): Promise<Float32Array>;
  /** Receives (rank ≠ root) or sends (rank = root) byteLength bytes at offset of a device buffer. */
  broadcast(options: {
    buffer: NativeDeviceBuffer;
    offset: number;
    byteLength: number;
    root: number;
    timeoutMs: number;
  }): Promise<void>;
  allocate(byteLength: number): Promise<NativeDeviceBuffer>;
  /**
   * The first byteLength bytes of another process's cudaMalloc block, named by its 64-byte cudaIpcMemHandle_t (of a torch tensor: the storage handle of
   * `reduce_tensor`). That process must keep the block, and must have synchronised what it wrote. The driver counts how often a block is open.
   */
  openIpc(handle: Uint8Array, byteLength: number): Promise<NativeDeviceBuffer>;
  /** Opens the files, allocates the slots and stages the first frames; nothing is sent before `run`. Also before `init`. */
  prepare(plan: NativePlan, timeoutMs: number): Promise<NativeTransfer>;
  /** 0 when all is well, else the ncclResult_t. Without `timeoutMs` it may last for the limit of calls. */
  asyncError(timeoutMs?: number | null): Promise<number>;
  /** Aborts whatever runs, also an init; afterwards the communicator is dead. Safe in every state; resolves within a second. */
  abort(): Promise<void>;
  /** Destroys a communicator with no unfinished operation; aborts it otherwise, and whatever still runs at the deadline. */
  destroy(timeoutMs: number): Promise<void>;
}

export interface NativeDeviceBuffer {
  readonly byteLength: number;
  /** Copies device to host. */
  read(offset: number, byteLength: number): Promise<Uint8Array>;
  /** Copies host to device; `bytes` must stay as they are until it resolves. */
  write(offset: number, bytes: Uint8Array): Promise<void>;
  /** Device-to-device copy of strided blocks: `count` blocks of `blockBytes`, `strideBytes` apart in the source, packed in the target. */
  copyFrom(
    source: NativeDeviceBuffer,
    options: {
      sourceOffset: number;
      blockBytes: number;
      strideBytes: number;
      count: number;
      targetOffset: number;
    },
  ): Promise<void>;
  /** 64 bytes by which another process on this machine opens the buffer (`openIpc`), while it lives. */
  ipcHandle(): Promise<Uint8Array>;
  /** SHA-256 (32 bytes) of each range. */
  sha256(ranges: readonly { offset: number; byteLength: number }[]): Promise<Uint8Array[]>;
  free(): Promise<void>;
}

/** Frames flattened: ranges in order; frameRanges[i] of them make frame i, which leaves as one broadcast. */
export interface NativePlan {
  readonly files: readonly string[];
  /** Sizes in bytes that the files must have when opened and when read: anything else is WC_CHECKPOINT_CHANGED. */
  readonly fileSizes: Float64Array;
  /** 0 file, 1 device buffer, 2 host bytes */
  readonly rangeKind: Uint8Array;
  /** Index in files or deviceBuffers; ignored for host bytes. */
  readonly rangeSource: Uint32Array;
  readonly rangeOffset: Float64Array;
  readonly rangeLength: Float64Array;
  readonly frameRanges: Uint32Array;
  readonly deviceBuffers: readonly NativeDeviceBuffer[];
  readonly hostBytes: Uint8Array;
  /** Device staging: `slots` buffers of `slotBytes`, which is at least the largest frame. */
  readonly slots: number;
  readonly slotBytes: number;
  /** Pinned host staging: `pieces` buffers of `pieceBytes`; a file range larger than a piece is cut. */
  readonly pieces: number;
  readonly pieceBytes: number;
  readonly root: number;
}

export interface NativeProgress {
  readonly framesSent: number;
  readonly bytesRead: number;
  readonly bytesSent: number;
}

export interface NativeTransferStats {
  readonly frames: number;
  readonly bytes: number;
  readonly elapsedMs: number;
  /** Time the stage was busy, summed: reading files, copying host to device, in broadcasts. */
  readonly readMs: number;
  readonly copyMs: number;
  readonly broadcastMs: number;
}

export interface NativeTransfer {
  /** Broadcasts that were handed to NCCL so far: 0 means that no engine can have received anything. */
  readonly framesIssued: number;
  /** Broadcasts every frame in order. Progress at most 30 times a second. Ends by an abort of the communicator at the deadline or on any failure. */
  run(
    timeoutMs: number,
    onProgress: ((progress: NativeProgress) => void) | null,
  ): Promise<NativeTransferStats>;
  /** Frees staging without sending. Harmless after run. */
  close(): Promise<void>;
}

/** The JSON of a safetensors header, valid UTF-8, read from byte `from`: the brace or the comma before the first tensor. */
export interface HeaderScanJob {
  readonly header: Uint8Array;
  readonly from: number;
  /** How many bytes follow the header in the file. */
  readonly dataBytes: number;
  /** What `dtype` may be; `dtypes` of the result are places in it. */
  readonly dtypes: readonly string[];
  readonly dtypeBits: Uint8Array;
}

/** What a header says, one typed array a field; `nameEnds` and `dimensionEnds` say where in theirs each row ends. */
export interface NativeHeader {
  readonly count: number;
  /** UTF-8, back to back. */
  readonly names: Uint8Array<ArrayBuffer>;
  readonly nameEnds: Uint32Array<ArrayBuffer>;
  /** Places in `dtypes` of the job, which is DTYPE_LIST. */
  readonly dtypes: Uint8Array<ArrayBuffer>;
  readonly dimensions: Float64Array<ArrayBuffer>;
  readonly dimensionEnds: Uint32Array<ArrayBuffer>;
  /** In bytes, from the end of the header. */
  readonly begins: Float64Array<ArrayBuffer>;
  readonly ends: Float64Array<ArrayBuffer>;
}

/** Digests over segments: count blocks of blockBytes bytes, strideBytes apart, starting at offset of files[file]. */
export interface HashJob {
  readonly files: readonly string[];
  readonly segmentFile: Uint32Array;
  readonly segmentOffset: Float64Array;
  readonly segmentBlockBytes: Float64Array;
  readonly segmentStrideBytes: Float64Array;
  readonly segmentBlocks: Float64Array;
  /** Number of segments of each digest, in order; a digest is SHA-256 over its segments' bytes. */
  readonly digestSegments: Uint32Array;
  /** Threads; 0 takes one a core. */
  readonly threads: number;
}

/** Files to write, each from ranges that follow each other; the ranges are given as in NativePlan. Buffers may be of several communicators. */
export interface WriteJob
  extends Pick<
    NativePlan,
    | 'files'
    | 'fileSizes'
    | 'rangeKind'
    | 'rangeSource'
    | 'rangeOffset'
    | 'rangeLength'
    | 'deviceBuffers'
    | 'hostBytes'
  > {
  /** Paths of files that do not exist. */
  readonly targets: readonly string[];
  /** targetRanges[i] ranges make target i. */
  readonly targetRanges: Uint32Array;
  /** Whether to compute the SHA-256 of each range. */
  readonly digest: boolean;
  /** Whether each target must be on stable storage (fdatasync) before it counts as written. */
  readonly sync: boolean;
  /** Threads; 0 takes one a core. */
  readonly threads: number;
}

export interface NativeWriteStats {
  readonly targets: number;
  readonly bytes: number;
  readonly elapsedMs: number;
  /** Time spent in the stage, summed over threads. */
  readonly readMs: number;
  readonly hashMs: number;
  readonly writeMs: number;
  readonly syncMs: number;
}

export interface NativeWritten {
  /** 32 bytes a range, in order; empty without `digest`. */
  readonly digests: Uint8Array;
  readonly stats: NativeWriteStats;
}

export interface Binding {
  /**
   * Opens both libraries off the event loop. null searches: a copy already loaded, the soname, the usual site-packages folders. The
   * environment counts as it is at the call; what the libraries themselves look for in it (CUDA_*, NCCL_*) they read on other threads, at
   * their first use, so set it before.
   *
   * No call of either library may last longer than callLimitMs (60 s), or the deadline of whoever waits for it plus a second: it then
   * ends in WC_NATIVE_STUCK, and what it holds is left behind.
   */
  open(
    cudaLibrary: string | null,
    ncclLibrary: string | null,
    callLimitMs?: number | null,
  ): Promise<NativeRuntime>;
  /** Rows in the order of their bytes. null where the header is not as the reference library writes it, in that order and without white space, or not valid. */
  scanHeader(job: HeaderScanJob): Promise<NativeHeader | null>;
  /** 32 bytes a digest, in order. Errors: WC_FILE_READ, WC_CHECKPOINT_CHANGED. */
  sha256(job: HashJob, onProgress: ((bytes: number) => void) | null): NativeJob<Uint8Array>;
  /**
   * Creates and writes files, several at a time. Whatever the end, the files that were created stay (the caller removes what was not
   * finished) and nothing is left open. Errors: WC_FILE_WRITE with `path`, `call`, `errno` and `errnoName` ('EEXIST', 'ENOSPC', …),
   * WC_FILE_READ and WC_CHECKPOINT_CHANGED for the sources, those of a device read, WC_NATIVE_CLOSED after cancel().
   */
  write(job: WriteJob, onProgress: ((bytesWritten: number) => void) | null): NativeJob<NativeWritten>;
  /** Compares elementwise. Progress counts the bytes of the new version. Errors: WC_FILE_READ, WC_CHECKPOINT_CHANGED, WC_FILE_WRITE. */
  diff(job: DiffJob, onProgress: ((bytes: number) => void) | null): NativeJob<NativeDiff>;
  /** The same errors; with codec zstd also WC_ZSTD_NOT_FOUND. */
  encodeDelta(job: EncodeDeltaJob, onProgress: ((bytes: number) => void) | null): NativeJob<EncodedDelta>;
  /** The SHA-256 of each pair's new bytes, 32 bytes a pair. Errors besides: WC_DELTA_INVALID, WC_ZSTD_NOT_FOUND. */
  applyDelta(job: ApplyDeltaJob, onProgress: ((bytes: number) => void) | null): NativeJob<Uint8Array>;
  /** libzstd as it is found now; null where there is none. @throws WC_ZSTD_NOT_FOUND when WEIGHTCAST_ZSTD_LIBRARY names none */
  zstd(): { readonly path: string; readonly version: number } | null;
}

/** What the module exports besides: how it makes its errors. */
interface Addon extends Binding {
  useErrors(make: (code: ErrorCode, message: string, details: Record<string, unknown>) => unknown): void;
}

const root = fileURLToPath(new URL('..', import.meta.url));

function load(): Binding {
  // An explicit path that does not load is an error, never a silent fallback.
  const explicit = process.env['WEIGHTCAST_ADDON'];
  const tried =
    explicit === undefined || explicit === ''
      ? [
          `${root}build/Release/weightcast.node`,
          `${root}prebuilds/${process.platform}-${process.arch}/weightcast.glibc.node`,
        ]
      : [explicit];
  const found = tried.find((path) => existsSync(path));
  if (found === undefined) {
    throw new WeightcastError(
      'WC_ADDON_NOT_FOUND',
      `the native addon is not built; tried ${tried.join(', ')}`,
      {
        details: { tried },
      },
    );
  }
  try {
    const addon = createRequire(import.meta.url)(found) as Addon;
    addon.useErrors((code, message, { remedy, ...details }) => {
      return new WeightcastError(code, message, {
        details,
        remedy: typeof remedy === 'string' ? remedy : undefined,
      });
    });
    return addon;
  } catch (cause) {
    throw new WeightcastError(
      'WC_ADDON_NOT_FOUND',
      `the native addon ${found} does not load: ${String(cause)}`,
      {
        cause,
      },
    );
  }
}

let binding: Binding | null = null;

/** The addon, loaded at the first call. */
export function native(): Binding {
  binding ??= load();
  return binding;
}

/** Paths of the emulated libcuda and libnccl that the build leaves beside the addon. */
export const emulatorLibraries = {
  cuda: `${root}build/emulator/libcuda.so.1`,
  nccl: `${root}build/emulator/libnccl.so.2`,
} as const;
