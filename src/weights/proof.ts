/** Proof by digest: which SHA-256 an engine can report for its parameters, and what its report proves. Everything here is pure. */
export { candidateSteps, candidatesFor } from './proof/candidates.js';
export { hashJobSteps, toHashJob } from './proof/hash-job.js';
export { judge, NOT_IN_CHECKPOINT, narrow } from './proof/judge.js';
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
