/** count blocks of blockBytes bytes, strideBytes apart, from offset of the file. */
export interface Segment {
  readonly path: string;
  readonly offset: number;
  readonly blockBytes: number;
  readonly strideBytes: number;
  readonly blocks: number;
}

/** One form in which a worker may hold a parameter, and so one SHA-256. */
export interface Candidate {
  /** Kind and rank: the same for the same form of any checkpoint. */
  readonly key: string;
  /** The tensor-parallel rank that would hold it; null for any. */
  readonly rank: number | null;
  /** 'the whole tensor', 'rows 1 of 2 of q_proj, k_proj, v_proj' … */
  readonly description: string;
  readonly segments: readonly Segment[];
}

/** A parameter as an engine may name it. */
export interface ProofParameter {
  readonly name: string;
  /** The checkpoint tensors that it is made of. */
  readonly tensors: readonly string[];
  /** Indices in the plan's candidates. */
  readonly candidates: readonly number[];
  /** Why other bytes than the candidates' may be right; null when they mean that the engine holds something else. */
  readonly doubt: string | null;
}

export interface ProofPlan {
  readonly tpSize: number;
  readonly candidates: readonly Candidate[];
  readonly parameters: ReadonlyMap<string, ProofParameter>;
  /** Names of all tensors of the checkpoint. */
  readonly tensors: readonly string[];
}

export interface Proved {
  readonly worker: string;
  readonly parameter: string;
  /** What its bytes were found to be. */
  readonly by: string;
  /** Keys of all candidates that have this hash. */
  readonly keys: readonly string[];
}

export interface Mismatched {
  readonly worker: string;
  readonly parameter: string;
  /** SHA-256 that the engine reports, hex. */
  readonly reported: string;
  /** What it was compared with. */
  readonly tried: readonly string[];
}

export interface Unprovable {
  readonly worker: string;
  readonly parameter: string;
  readonly reason: string;
}

export interface ProofVerdict {
  readonly proved: readonly Proved[];
  readonly mismatched: readonly Mismatched[];
  readonly unprovable: readonly Unprovable[];
  /** Checkpoint tensors that no reported parameter is made of. */
  readonly unreported: readonly string[];
  /** Workers that reported. */
  readonly workers: number;
  /** Parameters reported, summed over the workers. */
  readonly total: number;
  /** Every reported parameter was proved and every tensor of the checkpoint was reported. */
  readonly complete: boolean;
}
