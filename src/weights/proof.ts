/** Proof by digest: which SHA-256 an engine can report for its parameters, and what its report proves. Everything here is pure. */
export { candidatesFor } from './proof/candidates.js';
export { toHashJob } from './proof/hash-job.js';
export { judge, narrow } from './proof/judge.js';
export type {
  Candidate,
  Mismatched,
  ProofParameter,
  ProofPlan,
  ProofVerdict,
  Proved,
  Segment,
  Unprovable,
} from './proof/types.js';
