import type { HashJob } from '../../native.js';
import { runToEnd, type Steps } from '../yielding.js';
import type { ProofPlan } from './types.js';

const SEGMENTS_PER_STEP = 4096;

export interface PlannedHashes {
  readonly job: HashJob;
  /** What has to be read. */
  readonly totalBytes: number;
}

/** The addon's job for a plan: one digest a candidate, in order. */
export function toHashJob(plan: Pick<ProofPlan, 'candidates'>, threads = 0): PlannedHashes {
  return runToEnd(hashJobSteps(plan, threads));
}

/** The same, to be run in slices. */
export function* hashJobSteps(plan: Pick<ProofPlan, 'candidates'>, threads = 0): Steps<PlannedHashes> {
  const files = new Map<string, number>();
  const digestSegments = Uint32Array.from(plan.candidates, (candidate) => candidate.segments.length);
  const count = digestSegments.reduce((sum, segments) => sum + segments, 0);
  yield;
  const segmentFile = new Uint32Array(count);
  const segmentOffset = new Float64Array(count);
  const segmentBlockBytes = new Float64Array(count);
  const segmentStrideBytes = new Float64Array(count);
  const segmentBlocks = new Float64Array(count);
  let totalBytes = 0;
  let at = 0;
  for (const { segments } of plan.candidates) {
    for (const { path, offset, blockBytes, strideBytes, blocks } of segments) {
      const file = files.get(path) ?? files.size;
      files.set(path, file);
      segmentFile[at] = file;
      segmentOffset[at] = offset;
      segmentBlockBytes[at] = blockBytes;
      segmentStrideBytes[at] = strideBytes;
      segmentBlocks[at] = blocks;
      totalBytes += blockBytes * blocks;
      if (++at % SEGMENTS_PER_STEP === 0) yield;
    }
  }
  return {
    job: {
      files: [...files.keys()],
      segmentFile,
      segmentOffset,
      segmentBlockBytes,
      segmentStrideBytes,
      segmentBlocks,
      digestSegments,
      threads,
    },
    totalBytes,
  };
}
