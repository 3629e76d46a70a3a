/**
 * The admin operations of one engine, as data. A dialect turns each operation into one HTTP exchange and says what the answer
 * means; retry, deadlines, credentials and fan-out live in `http.ts` and above, never here.
 */

import type { AnswerLimits } from './answer.js';

/** Which deadline applies; seconds in {@link import('./http.js')}. */
export type Budget = 'probe' | 'pause' | 'init' | 'update' | 'load' | 'checksum' | 'score';

/** The answer to an exchange: body as text and, where it parses, as JSON. */
export interface Reply {
  readonly status: number;
  readonly contentType: string | null;
  readonly text: string;
  /** undefined when the body is not JSON */
  readonly json: unknown;
}

/** One HTTP exchange: what to send, whether it may be sent again, and how to read the answer. */
export interface Exchange<T> {
  /** Name for errors and logs: 'pause', 'start_weight_update' … */
  readonly operation: string;
  readonly method: 'GET' | 'POST' | 'DELETE';
  readonly path: string;
  /** 'inference' goes to the server that has /v1/models, where that is another one. Default 'admin'. */
  readonly at?: 'admin' | 'inference';
  readonly query: Readonly<Record<string, string>>;
  /** JSON body; null sends none. */
  readonly body: object | null;
  /** False for every request that makes an engine receive from NCCL (law 3): it is sent once. */
  readonly retryable: boolean;
  readonly budget: Budget;
  /** Statuses below 500 that a retryable exchange repeats too: a file that NFS does not show yet is a 404. */
  readonly alsoRetried?: readonly number[];
  /** How much may come back; default: by the budget. */
  readonly limits?: AnswerLimits;
  /** How long and how often it is tried, where the backend's own client has rules for it; default: by the budget. */
  readonly patience?: Patience;
  /** What it means here, and what to do, when the connection drops before an answer. */
  readonly ifDropped?: string;
  /** Reads any answer, also of status 4xx and 5xx; throws WeightcastError, with {@link AnswerDetails}, when it does not mean success. */
  read(reply: Reply): T;
}

/** `details` of the error that an answer becomes: what the update has to know of it. */
export interface AnswerDetails {
  /** HTTP status: the engine has answered. */
  readonly status: number;
  /** It says with a status below 400 that it did not do what was asked: nothing of it is under way. */
  readonly refused?: boolean;
  /** False where another try would only repeat the answer. */
  readonly transient?: boolean;
  /** It can't pause in the mode that was asked for now, but in this one. */
  readonly fallbackPauseMode?: PauseMode;
}

/** Milliseconds, and tries. A total that the caller gives replaces `totalMs`. */
export interface Patience {
  /** To open the connection. */
  readonly connectMs: number;
  readonly attemptMs: number;
  readonly totalMs: number;
  /** Tries in all, where the exchange is retryable. */
  readonly attempts: number;
}

export type PauseMode = 'abort' | 'wait' | 'keep';

/** What an engine does with its memory: one that is asleep keeps its weights elsewhere, an emptied one has let go of them. */
export type SleepState = 'awake' | 'asleep' | 'emptied';

/** What one answer says of the process behind an engine. */
export interface EngineLife {
  /** As {@link EngineAdmin.processStart} says it. */
  readonly processStart: number | null;
  /** Nothing can be written to the memory of one that sleeps; null where its metrics don't say. */
  readonly sleep: SleepState | null;
}

/** What leaves rank 0: engines of one wire format can share a communicator. */
export type WireFormat = 'vllm' | 'prime-rl';

/** What an engine version can do; the update asks here, never by trial. */
export interface Capabilities {
  /** 'one-shot': update only; 'three-step': start, update, finish. */
  readonly rounds: 'one-shot' | 'three-step';
  /** Where `packed`, `packed_buffer_size_bytes` and `packed_num_buffers` go. */
  readonly packedIn: 'init' | 'update';
  /** How the unique id reaches the workers. */
  readonly uniqueId: 'store' | 'inline';
  /** start + finish without an update restores an engine that received nothing. */
  readonly restoresByEmptyRound: boolean;
  readonly weightVersion: boolean;
  readonly weightChecker: boolean;
  readonly shutdownTransfer: boolean;
  /** `reset_prefix_cache` says whether it did. */
  readonly resetSaysSuccess: boolean;
  /** What happens to new requests during a pause by abort or wait; 'keep' queues them everywhere. */
  readonly newRequestsWhilePaused: 'queue' | 'refuse';
  /** How its workers receive by NCCL; null where the server can't: only `reloadFromDisk` updates it. */
  readonly wire: WireFormat | null;
  /** False where nothing loads whole weights from a directory: a prime-rl server that was started for NCCL. */
  readonly diskLoad: boolean;
  /** Milliseconds in which a group has to stand: its process ends when it waits longer. Default: it waits as long as it is told. */
  readonly joinWithinMs?: number;
  /** How it can pause; default: in every mode. */
  readonly pauseModes?: readonly PauseMode[];
  /** `isPaused` says false after a pause by 'keep', though it holds. */
  readonly isPausedLiesAfterKeep: boolean;
  /** `update_weights` may answer before the last bytes have arrived: there is no device synchronisation before 0.18. */
  readonly updateAnswersEarly: boolean;
  /** An update without a tag leaves the old one stored: where the user gives none, one is made from the identity of the checkpoint. Default false. */
  readonly needsWeightVersion?: boolean;
  /** It takes deltas in the checkpoint's own coordinates where it was started for them. Default false. */
  readonly sparse?: boolean;
  /** The backend of weight transfer that the user says it was started with: 'sparse_nccl' receives deltas only. Default: not said. */
  readonly transferBackend?: TransferBackend;
}

export type TransferBackend = 'nccl' | 'sparse_nccl';

/** One engine's seat in a communicator: its workers are ranks rankOffset .. rankOffset + its world size - 1. */
export interface GroupSeat {
  readonly rankOffset: number;
  /** Trainer included. */
  readonly worldSize: number;
  /** Workers of every engine of the group, in the order of their ranks. */
  readonly fleet: readonly number[];
  readonly masterAddress: string;
  readonly masterPort: number;
  /** 128 bytes, for dialects whose uniqueId is 'inline'; null sends the store's address. */
  readonly uniqueId: Uint8Array | null;
  readonly packing: Packing | null;
  /** Milliseconds until the group is given up, for backends whose workers have a timeout of their own. */
  readonly timeoutMs: number;
}

/** Packed wire format: chunks close when their total is strictly greater than bufferBytes. */
export interface Packing {
  readonly bufferBytes: number;
  readonly numBuffers: number;
}

export interface TensorSpec {
  readonly name: string;
  /** Attribute of the torch module: 'bfloat16', 'float8_e4m3fn' … */
  readonly dtypeName: string;
  readonly shape: readonly number[];
}

/** One version that is about to be sent. */
export interface WeightsUpdate {
  /** What the wire format declares, in the order of the bytes. */
  readonly tensors: readonly TensorSpec[];
  /** Of a delta: how many elements of each tensor follow, as a broadcast of int32 flat indices and one of values. Absent: whole tensors. */
  readonly updates?: readonly number[] | undefined;
  readonly packing: Packing | null;
  /** The tag, for backends that take it with the update. */
  readonly weightVersion: string | null;
  /** Where the weights are here, for backends that name a directory also when nothing is read from it. */
  readonly directory: string;
}

export interface ModelCard {
  readonly id: string;
  readonly root: string | null;
  readonly parent: string | null;
}

/** Log-probability of each prompt token after the first, in order. */
export type PromptScore = readonly number[];

/** Checksums of one engine: worker key ('dp0:pp0:pcp0:tp0') → parameter name → SHA-256, hex. */
export type Checksums = ReadonlyMap<string, ReadonlyMap<string, string>>;

/** The admin operations of one engine. Operations that a server lacks are null, or answer null where only it can know: see {@link Capabilities}. */
export interface EngineAdmin {
  /** The name of the folder, as a user gives it: 'vllm', 'prime-rl', 'dynamo'. */
  readonly backend: string;
  readonly version: string;
  /** Things worth telling the user: 'newer than the table', … */
  readonly notes: readonly string[];
  readonly capabilities: Capabilities;
  /** What a user does about what this engine lacks: to be reached by NCCL, to load from disk, to be proved by digest. */
  readonly remedies?: Partial<Readonly<Record<'nccl' | 'disk' | 'digest', string>>>;

  health(): Exchange<void>;
  listModels(): Exchange<readonly ModelCard[]>;
  /** GPU workers; null where the server can't say, and the configuration must. */
  worldSize(): Exchange<number> | null;
  /** null where the server can't say. */
  isPaused(): Exchange<boolean> | null;
  pause(options: { readonly mode: PauseMode; readonly clearCache: boolean }): Exchange<void>;
  resume(): Exchange<void>;

  initBroadcaster(seat: GroupSeat): Exchange<void>;
  shutdownBroadcaster(): Exchange<void> | null;
  startUpdate(): Exchange<void> | null;
  updateWeights(update: WeightsUpdate): Exchange<void>;
  finishUpdate(options: { readonly weightVersion: string | null }): Exchange<void> | null;

  /**
   * Loads a directory that every worker can see; also heals an engine whose update was not finished. Returns the number of workers, null where the server
   * does not say.
   */
  reloadFromDisk(
    directory: string,
    options: { readonly weightVersion: string | null },
  ): Exchange<number | null> | null;
  /** True when the cache was really reset; null when the version does not say. */
  resetPrefixCache(options: { readonly resetRunningRequests: boolean }): Exchange<boolean | null> | null;
  weightVersion(): Exchange<string> | null;
  setWeightVersion(version: string): Exchange<void> | null;
  checksums(): Exchange<Checksums> | null;

  /** The name of the backend that its workers receive by; null where the server doesn't say, '' where it has none. */
  transferBackend?(): Exchange<string | null>;
  /** Requests that it works on now; null where its metrics don't say. */
  runningRequests?(): Exchange<number | null>;
  /** A number that stays as long as the process does and no longer (Unix seconds of its start, where its metrics say): tells a restarted engine. */
  processStart(): Exchange<number | null> | null;
  /** That, and whether it sleeps, where one answer says both. */
  life?(): Exchange<EngineLife>;
  /** Scores a fixed prompt under the weights that are served now. */
  scorePrompt(options: {
    readonly model: string;
    readonly tokens: readonly number[];
  }): Exchange<PromptScore> | null;

  loadLoraAdapter(options: { readonly name: string; readonly path: string }): Exchange<void>;
  unloadLoraAdapter(options: { readonly name: string }): Exchange<void>;
}
