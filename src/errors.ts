/**
 * Every error that weightcast throws, in one table. Match on `code`, never on the message.
 *
 * A code names what went wrong; the fields say where (`engine`, `phase`) and what to do (`remedy`); `cause` keeps what lay below.
 */

type Family = 'config' | 'weights' | 'native' | 'rendezvous' | 'engine' | 'update' | 'publication';

interface Entry {
  readonly family: Family;
  /** What the reader should do, unless the place that throws knows better. */
  readonly remedy: string;
  /** What helps against what the system said: `details.errnoName`. */
  readonly byErrno?: Readonly<Record<string, string>>;
}

const entry = (family: Family, remedy: string, byErrno?: Entry['byErrno']): Entry => ({
  ...{ family, remedy },
  ...(byErrno === undefined ? {} : { byErrno }),
});

export const ERRORS = {
  // Configuration and usage
  WC_CONFIG_INVALID: entry(
    'config',
    'Correct what the message names; `weightcast push --help` lists every option.',
  ),

  // Weights
  WC_SAFETENSORS_INVALID: entry('weights', 'The file is not a valid safetensors file: write it again.'),
  WC_CHECKPOINT_NOT_FOUND: entry(
    'weights',
    'Pass a directory with model.safetensors or model.safetensors.index.json, or a .safetensors file.',
  ),
  WC_CHECKPOINT_INVALID: entry('weights', 'The shards and the index disagree: save the checkpoint again.'),
  WC_CHECKPOINT_SHARD_MISSING: entry(
    'weights',
    'A shard that the index names is missing: wait until the trainer has written it, or save again.',
  ),
  WC_CHECKPOINT_CHANGED: entry(
    'weights',
    'A file changed while it was being read: push a checkpoint that nobody writes to.',
  ),
  WC_TENSOR_UNSENDABLE: entry(
    'weights',
    'The wire format cannot carry this tensor: see the message for the setting that can.',
  ),

  WC_DELTA_TOO_LARGE: entry(
    'weights',
    'Too much changed for a delta: leave out --delta-from, or pass --fallback filesystem.',
  ),

  // Addon, CUDA, NCCL
  WC_ADDON_NOT_FOUND: entry(
    'native',
    'Build it: npm run build (in an installed package: npm explore weightcast -- npm run build:gyp).',
  ),
  WC_NCCL_NOT_FOUND: entry(
    'native',
    'Install NCCL (pip install nvidia-nccl-cu13, or libnccl2), or set WEIGHTCAST_NCCL_LIBRARY to the path of libnccl.so.2.',
  ),
  WC_NCCL_TOO_OLD: entry(
    'native',
    'weightcast needs NCCL 2.18 or later: set WEIGHTCAST_NCCL_LIBRARY to a newer libnccl.so.2.',
  ),
  WC_CUDA_NO_DRIVER: entry(
    'native',
    'Install the NVIDIA driver (in a container: run it with GPUs), or set WEIGHTCAST_CUDA_LIBRARY to the path of libcuda.so.1; without a GPU use --transport filesystem.',
  ),
  WC_CUDA_NO_DEVICE: entry(
    'native',
    'The driver sees no GPU: check nvidia-smi and CUDA_VISIBLE_DEVICES, or use --transport filesystem.',
  ),
  WC_CUDA_FAILED: entry(
    'native',
    'A CUDA driver call failed: look at nvidia-smi and dmesg (Xid), and restart this process if it stays so.',
  ),
  WC_CUDA_OUT_OF_MEMORY: entry(
    'native',
    'Lower --packed-buffer-bytes, or free memory: of the device, or of the host where the message speaks of pinned memory.',
  ),
  WC_NCCL_FAILED: entry('native', 'An NCCL call failed: run with NCCL_DEBUG=INFO for details.'),
  WC_NCCL_TIMEOUT: entry(
    'native',
    'A rank did not take part in time: look in the logs of the engines for a worker that died, hangs or cannot reach this machine (NCCL_SOCKET_IFNAME, firewall).',
  ),
  WC_NCCL_ABORTED: entry('native', 'The communicator was aborted: the next update builds a new one.'),
  WC_NATIVE_STUCK: entry(
    'native',
    'The driver or the GPU hangs: look at nvidia-smi and dmesg (Xid), and restart this process; reset the GPU if it stays so.',
  ),
  WC_NATIVE_LIMIT: entry('native', 'Restart this process: what it has left behind ends only with it.'),
  WC_NATIVE_CLOSED: entry('native', 'The handle is closed: open a new one.'),
  WC_NATIVE_ARGUMENT: entry('native', 'This is a defect in weightcast: please report it.'),
  WC_THREAD_REFUSED: entry(
    'native',
    "The system refuses another thread: raise `ulimit -u` or the container's limit on processes, or free memory.",
  ),
  WC_FILE_READ: entry(
    'native',
    'The file could not be read: check that it exists and that nobody truncates it.',
  ),

  // Rendezvous
  WC_RENDEZVOUS_TIMEOUT: entry(
    'rendezvous',
    'The workers named in the message did not reach the store: check --master-address, the firewall, and that engines have as many workers as is said (workers=N).',
  ),
  WC_RENDEZVOUS_ADDRESS: entry(
    'rendezvous',
    'Pass --master-address (and --master-port) that the engines can reach.',
  ),
  WC_RENDEZVOUS_PROTOCOL: entry(
    'rendezvous',
    'What listens at that address is no TCPStore of torch 2.5 or later, or it went away: check the address and the port.',
  ),
  WC_RENDEZVOUS_ABORTED: entry(
    'rendezvous',
    'The rendezvous was called off; see the cause. Start a fresh one.',
  ),

  // Engines
  WC_ENGINE_UNREACHABLE: entry('engine', 'Check that the engine runs and that its address is right.'),
  WC_ENGINE_TIMEOUT: entry(
    'engine',
    'The engine did not answer in time: it may be stuck in a receive; restart it if it stays so.',
  ),
  WC_ENGINE_HTTP: entry('engine', 'The engine refused the call: see its message.'),
  WC_ENGINE_PROTOCOL: entry(
    'engine',
    'The answer is not what this engine version gives: check what stands between (a proxy?).',
  ),
  WC_ENGINE_DEV_MODE: entry('engine', 'Start the server with VLLM_SERVER_DEV_MODE=1.'),
  WC_ENGINE_NOT_CONFIGURED: entry(
    'engine',
    `Start the server with --weight-transfer-config '{"backend":"nccl"}'.`,
  ),
  WC_ENGINE_VERSION: entry('engine', 'Use a vLLM version from 0.16 on.'),
  WC_ENGINE_UNAUTHORIZED: entry('engine', 'Pass the API key: --api-key-env NAME.'),
  WC_ENGINE_ASLEEP: entry(
    'engine',
    'Wake it first (a Dynamo worker: POST /engine/control/wake_up on its system port); if it slept at level 2 it has no weights until it is updated.',
  ),
  WC_ENGINE_DEAD: entry('engine', 'The engine is dead: restart it.'),
  WC_DISCOVERY_FAILED: entry(
    'engine',
    'Nobody was paused: see the message for what was seen; weightcast fleet shows it live.',
  ),
  WC_REFERENCE_ENGINE: entry('engine', 'The reference engine did not start: see its message.'),

  // Update
  WC_STATE_DIR: entry(
    'config',
    'Name a folder of yours that only you can write to: --state-dir DIR or WEIGHTCAST_STATE_DIR; --state-dir none goes without.',
  ),
  WC_UPDATE_BUSY: entry('update', 'An update is already running: await it first.'),
  WC_UPDATE_ABORTED: entry(
    'update',
    'Push again: an engine that the report calls quarantined is healed by the next push, the others serve what the report says.',
  ),
  WC_UPDATE_FAILED: entry('update', 'The fleet still serves the old version; see the cause.'),
  WC_UPDATE_QUARANTINED: entry(
    'update',
    'Some engines are paused and excluded: set fallback = "filesystem" or push again by files to heal them.',
  ),
  WC_VERIFY_MISMATCH: entry(
    'update',
    'The engine holds other bytes than were sent: heal it by a filesystem push, and report this.',
  ),

  // Versions in a publication directory
  WC_PUBLISH_EXISTS: entry(
    'publication',
    'The version is there already: publish under another number, or remove that one first.',
  ),
  WC_PUBLISH_BUSY: entry(
    'publication',
    'Another publisher writes this version now: wait for it; what a dead one left is swept once the grace period is over.',
  ),
  WC_PUBLISH_SPACE: entry(
    'publication',
    'Make room (weightcast prune), or publish to another file system; nothing was written.',
  ),
  WC_FILE_WRITE: entry(
    'publication',
    'The file could not be written: see the message for why (space, quota, rights, a broken device).',
    {
      ENOSPC:
        'Make room (weightcast prune, or a smaller --keep where versions are kept), or name another file system.',
      EDQUOT:
        'The quota is used up: raise it, make room (weightcast prune, or a smaller --keep), or name another file system.',
      EIO: 'The device or the file server fails: look at dmesg and at the storage, then repeat the command.',
      EROFS: 'The file system is mounted read-only: have it mounted otherwise, or name another one.',
      EACCES: 'This user may not write there: give the rights, or name another folder.',
      EPERM: 'This user may not write there: give the rights, or name another folder.',
    },
  ),
  WC_MANIFEST_INVALID: entry(
    'publication',
    'Nobody can rely on this version: publish it again, and see who else writes to the directory.',
  ),
  WC_VERSION_NOT_FOUND: entry(
    'publication',
    'No such version is published here: see what is, and whether its publisher still works.',
  ),
  WC_VERSION_CORRUPT: entry(
    'publication',
    'The files are not what their manifest says: publish the version again, and check the storage.',
  ),
  WC_ZSTD_NOT_FOUND: entry(
    'publication',
    'Install libzstd1 (libzstd), or set WEIGHTCAST_ZSTD_LIBRARY to the path of libzstd.so.1.',
  ),
  WC_DELTA_BASE: entry(
    'publication',
    'The delta belongs to other weights: apply the versions in their order, or start from a full one.',
  ),
  WC_DELTA_INVALID: entry(
    'publication',
    'The delta is damaged: publish the version again, in full or from its base.',
  ),
} as const satisfies Record<string, Entry>;

export type ErrorCode = keyof typeof ERRORS;

export interface ErrorDetails {
  /** Identity of the engine concerned, as the user named it. */
  readonly engine?: string | undefined;
  /** Phase of the update in which it happened. */
  readonly phase?: string | undefined;
  /** What to do; replaces the table's remedy. */
  readonly remedy?: string | undefined;
  readonly cause?: unknown;
  /** Facts for programs: HTTP status, NCCL result, tried paths. */
  readonly details?: Readonly<Record<string, unknown>> | undefined;
}

const MARK = Symbol.for('weightcast.error');

/** Base of every error; `instanceof` also holds across two copies of the package. */
export class WeightcastError extends Error {
  readonly code: ErrorCode;
  readonly family: Family;
  readonly engine: string | null;
  readonly phase: string | null;
  readonly remedy: string;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'WeightcastError';
    this.code = code;
    this.family = ERRORS[code].family;
    this.engine = details.engine ?? null;
    this.phase = details.phase ?? null;
    this.details = details.details ?? {};
    const { remedy, byErrno }: Entry = ERRORS[code];
    this.remedy = details.remedy ?? byErrno?.[String(this.details['errnoName'])] ?? remedy;
    Object.defineProperty(this, MARK, { value: true });
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    return typeof value === 'object' && value !== null && MARK in value;
  }

  /** Plain data for `--json` and logs. */
  toJSON(): Record<string, unknown> {
    return {
      code: this.code,
      message: this.message,
      engine: this.engine,
      phase: this.phase,
      remedy: this.remedy,
      details: this.details,
    };
  }
}

/** True when `error` is a weightcast error with this code. */
export function hasCode(error: unknown, code: ErrorCode): error is WeightcastError {
  return error instanceof WeightcastError && error.code === code;
}

/** Turns anything thrown (also the addon's plain errors, which carry a `code`) into a WeightcastError; adds what is missing. */
export function asWeightcastError(
  error: unknown,
  code: ErrorCode,
  details: ErrorDetails = {},
): WeightcastError {
  if (error instanceof WeightcastError) {
    if (
      (error.engine !== null || details.engine === undefined) &&
      (error.phase !== null || details.phase === undefined)
    ) {
      return error;
    }
    return new WeightcastError(error.code, error.message, {
      engine: error.engine ?? details.engine,
      phase: error.phase ?? details.phase,
      remedy: error.remedy,
      cause: error.cause ?? error,
      details: error.details,
    });
  }
  const own = error instanceof Error ? (error as Error & { code?: unknown }).code : undefined;
  const known = typeof own === 'string' && own in ERRORS ? (own as ErrorCode) : code;
  return new WeightcastError(known, error instanceof Error ? error.message : String(error), {
    ...details,
    cause: error,
  });
}
