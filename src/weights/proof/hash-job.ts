import type { HashJob } from '../../native.js';
import type { ProofPlan } from './types.js';

/** The addon's job for a plan: one digest a candidate, in order; `totalBytes` is what has to be read. */
export function toHashJob(
  plan: Pick<ProofPlan, 'candidates'>,
  threads = 0,
): { readonly job: HashJob; readonly totalBytes: number } {
  const files = new Map<string, number>();
  const segments = plan.candidates.flatMap((candidate) => candidate.segments);
  const segmentFile = Uint32Array.from(segments, ({ path }) => {
    const index = files.get(path) ?? files.size;
    files.set(path, index);
    return index;
  });
  const job: HashJob = {
    files: [...files.keys()],
    segmentFile,
    segmentOffset: Float64Array.from(segments, ({ offset }) => offset),
    segmentBlockBytes: Float64Array.from(segments, ({ blockBytes }) => blockBytes),
    segmentStrideBytes: Float64Array.from(segments, ({ strideBytes }) => strideBytes),
    segmentBlocks: Float64Array.from(segments, ({ blocks }) => blocks),
    digestSegments: Uint32Array.from(plan.candidates, (candidate) => candidate.segments.length),
    threads,
  };
  const totalBytes = segments.reduce((sum, { blockBytes, blocks }) => sum + blockBytes * blocks, 0);
  return { job, totalBytes };
}
