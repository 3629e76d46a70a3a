/**
 * What differs between the vLLM versions that were recorded: one row a version, data only.
 * Measured on real servers (contracts/vllm.md, "Read this first"; contracts/recorded/vllm).
 */

/** The vLLM versions that a reference engine can be told to be. */
export const VLLM_VERSIONS = [
  '0.16.0',
  '0.18.1',
  '0.20.2',
  '0.22.1',
  '0.24.0',
  '0.27.1',
  '0.28.0',
  '0.30.0',
  '0.32.0',
  '0.33.0',
] as const;

export type VllmVersion = (typeof VLLM_VERSIONS)[number];

export interface Profile {
  readonly version: VllmVersion;
  readonly rounds: 'one-shot' | 'three-step';
  /** 0.21–0.24 refuse a start without a JSON body; later ones never read it. */
  readonly startBody: 'required' | 'ignored';
  readonly packedIn: 'update' | 'init';
  /** `nccl_unique_id_b64` is a field of init_info. */
  readonly inlineUniqueId: boolean;
  /** Extra fields of update_info that this version takes. */
  readonly updateFields: readonly string[];
  /** How a failure in a worker is told: plain text, its bare message, or the message wrapped. */
  readonly workerErrors: 'text' | 'bare' | 'wrapped';
  /** Validation texts: tuple locations with a source line, tuple locations, dotted locations. */
  readonly validation: 'sourced' | 'tuple' | 'dotted';
  /** Validation errors name the field in `param` (0.24 and later). */
  readonly namesField: boolean;
  /** Words for a prompt that is too long: see completions.ts. */
  readonly lengthError: 'passed' | 'total' | 'alone';
  /** Bodies of init and update are declared types: FastAPI refuses them before any code runs. */
  readonly typedBodies: boolean;
  readonly resetSaysSuccess: boolean;
  /** weight_info, update_weight_version, and `weight_version` in finish. */
  readonly weightVersion: boolean;
  /** A failed update closes the session (0.23 and later); before, it stays open. */
  readonly failureClosesSession: boolean;
  /** start + finish with no data puts the layers back (seen on 0.24–0.33). */
  readonly emptyRoundRestores: boolean;
  /** `keep` shows in is_paused (not on 0.16, whose pause lives in the front end). */
  readonly keepShowsPaused: boolean;
  /** Requests during an abort or wait pause get 503 instead of being queued. */
  readonly refusesWhilePaused: boolean;
  /** An update whose lists are all empty means the previous lists again. */
  readonly reusesMetadata: boolean;
  /** The backend `sparse_nccl` takes patches in checkpoint coordinates (before 0.30 in those of runtime parameters, which no reference engine takes). */
  readonly sparse: boolean;
  /** update_info may be a list, one entry a worker (0.29 and later). */
  readonly updateInfoLists: boolean;
  /** Path prefixes that --api-key guards. */
  readonly guarded: readonly string[];
  /** What requests get from an engine whose core died. */
  readonly deadMessage: string;
  /** 404 of an unknown model lists the served names. */
  readonly namesAliases: boolean;
  /** A LoRA adapter may not take the base model's name. */
  readonly guardsModelName: boolean;
}

const CORE_DIED = 'EngineCore encountered an issue. See stack trace (above) for the root cause.';

const V016: Profile = {
  version: '0.16.0',
  rounds: 'one-shot',
  startBody: 'ignored',
  packedIn: 'update',
  inlineUniqueId: false,
  updateFields: ['packed', 'packed_buffer_size_bytes', 'packed_num_buffers', 'is_checkpoint_format'],
  workerErrors: 'text',
  validation: 'sourced',
  namesField: false,
  lengthError: 'passed',
  typedBodies: false,
  resetSaysSuccess: false,
  weightVersion: false,
  failureClosesSession: true,
  emptyRoundRestores: false,
  keepShowsPaused: false,
  refusesWhilePaused: false,
  reusesMetadata: false,
  updateInfoLists: false,
  sparse: false,
  guarded: ['/v1'],
  deadMessage: CORE_DIED,
  namesAliases: false,
  guardsModelName: false,
};
const V018: Profile = {
  ...V016,
  version: '0.18.1',
  workerErrors: 'bare',
  lengthError: 'total',
  keepShowsPaused: true,
};
const V020: Profile = { ...V018, version: '0.20.2', workerErrors: 'wrapped' };
const V022: Profile = {
  ...V020,
  version: '0.22.1',
  rounds: 'three-step',
  startBody: 'required',
  updateFields: ['packed', 'packed_buffer_size_bytes', 'packed_num_buffers'],
  failureClosesSession: false,
  guarded: ['/v1', '/v2', '/inference'],
};
const V024: Profile = {
  ...V022,
  version: '0.24.0',
  namesField: true,
  updateFields: [...V022.updateFields, 'update_kind', 'num_updates_list'],
  failureClosesSession: true,
  emptyRoundRestores: true,
};
const V027: Profile = {
  ...V024,
  version: '0.27.1',
  startBody: 'ignored',
  updateFields: V022.updateFields,
  validation: 'tuple',
  resetSaysSuccess: true,
  weightVersion: true,
  guarded: [...V024.guarded, '/cohere'],
};
const V028: Profile = { ...V027, version: '0.28.0', packedIn: 'init', updateFields: [] };
const V030: Profile = {
  ...V028,
  version: '0.30.0',
  inlineUniqueId: true,
  validation: 'dotted',
  updateInfoLists: true,
  sparse: true,
};
const V032: Profile = {
  ...V030,
  version: '0.32.0',
  lengthError: 'alone',
  typedBodies: true,
  namesAliases: true,
  guardsModelName: true,
};
const V033: Profile = {
  ...V032,
  version: '0.33.0',
  refusesWhilePaused: true,
  reusesMetadata: true,
  deadMessage: 'The server had an error while processing your request.',
};

const PROFILES: Readonly<Record<VllmVersion, Profile>> = {
  '0.16.0': V016,
  '0.18.1': V018,
  '0.20.2': V020,
  '0.22.1': V022,
  '0.24.0': V024,
  '0.27.1': V027,
  '0.28.0': V028,
  '0.30.0': V030,
  '0.32.0': V032,
  '0.33.0': V033,
};

export function profileOf(version: VllmVersion): Profile {
  return PROFILES[version];
}

export function isVllmVersion(value: string): value is VllmVersion {
  return (VLLM_VERSIONS as readonly string[]).includes(value);
}
