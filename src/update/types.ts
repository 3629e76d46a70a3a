/** What an update takes, what it says while it runs, and what it reports. */

import type { PauseMode, WireFormat } from '../engines/admin.js';
import type { ErrorCode } from '../errors.js';
import type { PoolPolicy } from '../fleet/elastic/state.js';
import type { DiscoverSpec, ElasticSpec } from '../fleet/specs.js';
import type { Steadiness } from '../fleet/steady.js';

/** Milliseconds. Every wait of an update has one of these. */
export interface UpdateTimeouts {
  /** One attempt of /health, /version and the like. */
  readonly probe: number;
  readonly pause: number;
  readonly resume: number;
  /** All workers joined, communicator ready. */
  readonly rendezvous: number;
  /** Transfer of one version, from the first request to the last answer; also a load from disk. */
  readonly update: number;
  /** One engine's own weight checker. */
  readonly checksum: number;
  /** One scored prompt. */
  readonly score: number;
  /** Engines that are to be found are there, and stay the same. */
  readonly discovery: number;
}

export const DEFAULT_TIMEOUTS: UpdateTimeouts = {
  probe: 15_000,
  pause: 300_000,
  resume: 300_000,
  rendezvous: 300_000,
  update: 720_000,
  checksum: 300_000,
  score: 60_000,
  discovery: 120_000,
};

/** One engine, as a user names it: 'vllm=http://host:8000', a bare URL, or an object. */
export interface EngineSpec {
  readonly url: string;
  readonly backend?: string;
  readonly apiKey?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** GPU workers, for servers that can't say. */
  readonly workers?: number;
  /** Base URL of /v1/models and of inference, where another server has them. */
  readonly inferenceUrl?: string;
  /** What only its backend understands. */
  readonly parameters?: Readonly<Record<string, string>>;
  /** What discovery lists of it. */
  readonly routes?: readonly string[];
}

export type TransportName = 'nccl' | 'filesystem';
export type VerifyMode = 'auto' | 'digest' | 'fingerprint' | 'none';

export interface FleetOptions {
  /** Engines that always belong to the fleet; may be empty where others are found. */
  readonly engines: readonly (string | EngineSpec)[];
  /** Engines that frontends of NVIDIA Dynamo list: 'dynamo=http://frontend:8000'. Several are frontends of one deployment, and must list the same. */
  readonly discover?: readonly (string | DiscoverSpec)[];
  /** Engines behind the addresses of a name: 'engines.svc:8000,backend=prime-rl'. Asked again before each update. */
  readonly elastic?: readonly (string | ElasticSpec)[];
  /** How often an elastic or discovered fleet is looked at between updates, and how much it takes until an engine is out. */
  readonly pool?: { readonly intervalMs?: number } & Partial<PoolPolicy & Steadiness>;
  /** Where requests go, when a router stands before an elastic fleet. */
  readonly routerUrl?: string;
  /** Of engines that name none: 'vllm' (default), 'prime-rl', 'dynamo', or 'auto', which finds out. */
  readonly backend?: string;
  /** What every engine must list in its /v1/models. Default: nobody asks. */
  readonly servedModel?: string;
  /** Default 'nccl'. */
  readonly transport?: TransportName;
  /** 'filesystem': engines that NCCL can't reach, or that a failed transfer quarantined, load the weights from disk. Default none. */
  readonly fallback?: 'filesystem' | 'none';
  /** A directory with a good (older) version that heals an engine when the new weights can't. */
  readonly recover?: string;
  /** Use the emulated libcuda and libnccl of the build. Default false. */
  readonly emulate?: boolean;
  /** Paths of the libraries; default: the search order of the README. */
  readonly cudaLibrary?: string;
  readonly ncclLibrary?: string;
  /** CUDA device of rank 0. Default 0. */
  readonly device?: number;
  /** Packed wire format. Default true. */
  readonly packed?: boolean;
  /** A packed chunk closes when it is larger than this many bytes. Default 256 MiB. */
  readonly packedBufferBytes?: number;
  /** Address under which the engines reach this process; default: the local address towards the first engine. */
  readonly masterAddress?: string;
  /** Port of the store; 0 (default) takes a free one. Where engines of several wire formats are updated, each further one has the next port. */
  readonly masterPort?: number;
  /** Default 'keep'. */
  readonly pauseMode?: PauseMode;
  /** Whether the pause clears the engines' caches (running requests then prefill again under the new weights). Default true. */
  readonly clearCache?: boolean;
  /** Default 'auto': the first update of a session by digest where the engine can, later ones by fingerprint. */
  readonly verify?: VerifyMode;
  readonly apiKey?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly timeouts?: Partial<UpdateTimeouts>;
  /**
   * Where updates of the same engines find one another, and what a killed one leaves for the next: see the README. Default $WEIGHTCAST_STATE_DIR, else
   * $XDG_RUNTIME_DIR/weightcast, else a folder of this user in the temporary folder. null: nothing is written, and nobody is refused.
   */
  readonly stateDir?: string | null;
  /**
   * A small process beside this one that puts the engines right when this one is killed in an update. Default false: a library starts no process
   * unasked; the command line does.
   */
  readonly guardian?: boolean;
  readonly onEvent?: (event: UpdateEvent) => void;
}

export type Phase =
  | 'preflight'
  | 'rendezvous'
  | 'stage'
  | 'pause'
  | 'transfer'
  | 'verify'
  | 'reset'
  | 'resume'
  | 'fingerprint'
  | 'heal';

/**
 * What one engine is known to do.
 * serving-old: untouched · paused: untouched and paused · receiving: its update session is open, so it is broken until finished
 * received: holds new bytes, unproved · verified: proved, still paused · serving-new · quarantined: paused, reported, excluded
 */
export type EngineState =
  | 'unknown'
  | 'serving-old'
  | 'paused'
  | 'receiving'
  | 'received'
  | 'verified'
  | 'serving-new'
  | 'quarantined';

export type UpdateEvent =
  | { readonly kind: 'phase'; readonly phase: Phase }
  | {
      readonly kind: 'engine';
      readonly engine: string;
      readonly state: EngineState;
      readonly reason: string | null;
    }
  | { readonly kind: 'progress'; readonly phase: Phase; readonly bytes: number; readonly totalBytes: number }
  | { readonly kind: 'note'; readonly text: string };

export interface UpdateOptions {
  /** Weight version recorded by engines that can: any short string. Default: none is sent. */
  readonly version?: string;
  readonly signal?: AbortSignal;
  readonly verify?: VerifyMode;
  /**
   * The version that the engines hold, a checkpoint directory or file: only what differs from it is sent, by NCCL, to engines that were started for deltas (vLLM's
   * backend `sparse_nccl`). Each engine is proved to hold it first.
   */
  readonly deltaFrom?: string;
  /**
   * As `deltaFrom` with what this session pushed last, as long as its files are there and unchanged; `deltaFrom` then says what engines hold before the first
   * update. Retention is kept from removing what the next delta may start from, until the session is closed.
   */
  readonly delta?: boolean;
  /** The weight version that engines with `deltaFrom` say: one that says another is not patched. Default: their bytes are proved instead. */
  readonly deltaFromVersion?: string;
}

export interface ErrorReport {
  readonly code: ErrorCode | 'UNKNOWN';
  readonly message: string;
  readonly engine: string | null;
  readonly phase: string | null;
  readonly remedy: string | null;
}

export interface ProofReport {
  readonly method: 'digest' | 'fingerprint' | 'none';
  /** Parameters, summed over workers. */
  readonly proved: number;
  readonly total: number;
  readonly mismatched: readonly string[];
  readonly unprovable: readonly { readonly parameter: string; readonly reason: string }[];
  /** Milliseconds that the engine took to hash its copy (inside the pause), 0 for other methods. */
  readonly engineMs: number;
  readonly note: string | null;
}

export interface EngineReport {
  readonly id: string;
  readonly url: string;
  readonly backend: string;
  readonly engineVersion: string | null;
  readonly workers: number | null;
  readonly state: EngineState;
  /** How the new bytes came, null when they did not. */
  readonly transport: TransportName | null;
  /** Milliseconds since the update began, for each state that it was in. */
  readonly history: readonly {
    readonly state: EngineState;
    readonly atMs: number;
    readonly reason: string | null;
  }[];
  /** Milliseconds from the pause request to the answer of the resume; null if it was not paused or still is. */
  readonly pausedMs: number | null;
  /** As the engine says after the update, where it can. */
  readonly weightVersion: string | null;
  readonly proof: ProofReport | null;
  readonly error: ErrorReport | null;
}

/** Several wire formats are sent one after the other, and counted together. */
export interface TransferReport {
  readonly transport: TransportName;
  readonly bytes: number;
  readonly frames: number;
  /** Milliseconds, wall clock, of sending. */
  readonly elapsedMs: number;
  readonly bytesPerSecond: number;
  /** Milliseconds that each stage was busy; they overlap. */
  readonly readMs: number;
  readonly copyMs: number;
  readonly broadcastMs: number;
}

/** What a delta carried. */
export interface DeltaReport {
  /** The version that it starts from. */
  readonly base: string;
  /** Tensors that changed. */
  readonly tensors: number;
  /** Elements that changed, of so many. */
  readonly elements: number;
  readonly ofElements: number;
  /** Of the delta, and of the whole weights. */
  readonly bytes: number;
  readonly denseBytes: number;
}

export interface NcclReport {
  readonly version: number;
  readonly library: string;
  /** Ranks of all groups, rank 0 counted in each. */
  readonly worldSize: number;
  /** No engine had to join anew. */
  readonly reused: boolean;
  /** One for each wire format among the engines. */
  readonly groups: readonly {
    readonly wire: WireFormat;
    readonly worldSize: number;
    readonly reused: boolean;
    readonly engines: readonly string[];
  }[];
}

export interface UpdateReport {
  readonly outcome: 'updated' | 'failed' | 'quarantined';
  readonly version: string | null;
  readonly transport: TransportName;
  /** True when libcuda and libnccl were emulated: such numbers say nothing about GPUs. */
  readonly emulated: boolean;
  readonly weights: {
    readonly path: string;
    readonly tensors: number;
    readonly bytes: number;
    readonly files: number;
    /** SHA-256 over the sorted lines "name sha256" of every tensor, when digests were taken. */
    readonly digest: string | null;
  };
  readonly engines: readonly EngineReport[];
  readonly phases: readonly { readonly phase: Phase; readonly ms: number }[];
  /** Milliseconds from the first pause request to the last resume's answer; null when nobody was paused. */
  readonly pauseMs: number | null;
  readonly transfer: TransferReport | null;
  /** What was sent is the difference to an earlier version; null where whole weights were. */
  readonly delta: DeltaReport | null;
  /** Staging memory in bytes, known before anything started. */
  readonly memory: { readonly device: number; readonly pinned: number } | null;
  readonly nccl: NcclReport | null;
  readonly notes: readonly string[];
  readonly error: ErrorReport | null;
}
