/** What a rank in a process of its own is asked for, and answers. Bytes travel as base64: the channel is Node's IPC. */

export interface OpenAnswer {
  readonly ncclVersion: number;
  readonly cudaLibrary: string;
  readonly ncclLibrary: string;
  /** cuDriverGetVersion: 13000 is CUDA 13.0. */
  readonly cudaVersion: number;
  readonly device: string;
  readonly emulated: boolean;
}

/** Frames of `frameBytes` from a file or from device buffers, as the executor takes them. */
export interface TransferOrder {
  readonly source:
    | { readonly kind: 'file'; readonly path: string; readonly byteLength: number }
    | { readonly kind: 'device'; readonly buffer: number; readonly byteLength: number };
  readonly frameBytes: number;
  /** A frame is put together from ranges of at most this many bytes. */
  readonly rangeBytes: number;
  readonly timeoutMs: number;
}

export interface TransferAnswer {
  readonly bytes: number;
  readonly frames: number;
  readonly elapsedMs: number;
  readonly readMs: number;
  readonly copyMs: number;
  readonly broadcastMs: number;
}

/** Operation → [argument, answer]. A buffer is named by the number that `allocate` or `openIpc` gave. */
export interface Operations {
  open: [{ readonly device: number }, OpenAnswer];
  uniqueId: [null, string];
  join: [
    {
      readonly uniqueId: string;
      readonly worldSize: number;
      readonly rank: number;
      readonly timeoutMs: number;
    },
    number,
  ];
  allocate: [{ readonly byteLength: number }, number];
  free: [{ readonly buffer: number }, null];
  /** Fills a buffer with a pattern made of the seed; answers its SHA-256 when asked for it. */
  fill: [{ readonly buffer: number; readonly digest: boolean }, string | null];
  digest: [{ readonly buffer: number; readonly byteLength: number }, string];
  /** Milliseconds. */
  broadcast: [
    {
      readonly buffer: number;
      readonly offset: number;
      readonly byteLength: number;
      readonly timeoutMs: number;
    },
    number,
  ];
  /** Receives the frames of a transfer, one after the other, into the buffer; milliseconds. */
  receive: [
    {
      readonly buffer: number;
      readonly byteLength: number;
      readonly frameBytes: number;
      readonly keep: boolean;
      readonly timeoutMs: number;
    },
    number,
  ];
  transfer: [TransferOrder, TransferAnswer];
  /** The tensors of a checkpoint in the order in which `push` sends them: [name, dtype, shape]. */
  describe: [
    { readonly checkpoint: string; readonly bufferBytes: number },
    readonly (readonly [string, string, readonly number[]])[],
  ];
  /** The warm-up all-reduce of vLLM's communicator, then the checkpoint in vLLM's packed format. */
  push: [
    { readonly checkpoint: string; readonly bufferBytes: number; readonly timeoutMs: number },
    TransferAnswer,
  ];
  /** Packs `count` blocks, a stride apart, into another buffer; milliseconds. */
  gather: [
    {
      readonly target: number;
      readonly source: number;
      readonly blockBytes: number;
      readonly strideBytes: number;
      readonly count: number;
    },
    number,
  ];
  ipcHandle: [{ readonly buffer: number }, string];
  /** Buffer and milliseconds. */
  openIpc: [
    { readonly handle: string; readonly byteLength: number },
    { readonly buffer: number; readonly ms: number },
  ];
  asyncError: [null, number];
  abort: [null, null];
  leave: [null, null];
}

export type Operation = keyof Operations;

export interface Request {
  readonly id: number;
  readonly operation: Operation;
  readonly argument: unknown;
}

export type Answer =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly error: { readonly code: string; readonly message: string } };
