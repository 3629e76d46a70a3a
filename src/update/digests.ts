/** SHA-256 of what is sent, taken before the pause, for every form in which an engine may report it. */
import { createHash } from 'node:crypto';
import type { Checksums } from '../engines/admin.js';
import { WeightcastError } from '../errors.js';
import { native } from '../native.js';
import { digestAt, jobResult } from '../native-job.js';
import type { KnownDigests } from '../transports/filesystem/published/known-digests.js';
import type { Checkpoint } from '../weights/checkpoint.js';
import {
  type Candidate,
  candidateSteps,
  hashJobSteps,
  judge,
  narrow,
  type ProofPlan,
  type ProofVerdict,
} from '../weights/proof.js';
import { runInSlices } from '../weights/yielding.js';

export interface DigestOptions {
  readonly onProgress: (bytes: number, totalBytes: number) => void;
  /** What earlier proofs of the same fleet showed, by tensor-parallel size: only those forms are hashed. Filled by every judgement of all workers without a mismatch. */
  readonly learned: Map<number, ProofVerdict>;
  /**
   * What was published, where the checkpoint is a published version: such bytes are not hashed again. An engine is then held against what the publisher
   * wrote, so that bytes which went bad on the disk since are a mismatch, instead of being proved as what they became.
   */
  readonly known?: KnownDigests | null | undefined;
}

/** Forms in which workers may hold their parameters: more would take gigabytes to list, and the number of workers comes from the engine. */
const MAX_FORMS = 2_500_000;

interface Page {
  readonly plan: ProofPlan;
  readonly digests: readonly string[];
}

/** Digests of one checkpoint, by tensor-parallel size. */
export class DigestBook {
  readonly #checkpoint: Checkpoint;
  readonly #options: DigestOptions;
  readonly #pages = new Map<number, Page>();

  constructor(checkpoint: Checkpoint, options: DigestOptions) {
    this.#checkpoint = checkpoint;
    this.#options = options;
  }

  /**
   * Hashes, once, what engines with this tensor-parallel size may report.
   *
   * @throws WeightcastError WC_FILE_READ, WC_CHECKPOINT_CHANGED, WC_VERIFY_MISMATCH when there are too many forms to tell apart
   */
  async prepare(tpSize: number, signal: AbortSignal): Promise<Page> {
    const known = this.#pages.get(tpSize);
    if (known !== undefined) return known;
    if (!this.canPrepare(tpSize)) {
      throw new WeightcastError(
        'WC_VERIFY_MISMATCH',
        `${this.#checkpoint.tensors.length} tensors over ${tpSize} tensor-parallel workers are too many to be proved by digest`,
        { remedy: 'Use --verify fingerprint.' },
      );
    }
    const all = await runInSlices(candidateSteps(this.#checkpoint.tensors, tpSize), signal);
    const before = this.#options.learned.get(tpSize);
    const plan = before === undefined ? all : narrow(all, before);
    const page = { plan, digests: await digestsOf(plan, signal, this.#options) };
    this.#pages.set(tpSize, page);
    return page;
  }

  /** The engines are held against the manifest of a published version. */
  get isPublished(): boolean {
    return (this.#options.known ?? null) !== null;
  }

  /** False when an engine says that it has so many workers that nothing could be listed for them. */
  canPrepare(tpSize: number): boolean {
    return this.#checkpoint.tensors.length * (2 * tpSize + 1) <= MAX_FORMS;
  }

  /**
   * Compares what an engine reports. Hashes on the spot what was not prepared: the tensor-parallel size is not the number of workers where
   * there are pipeline or data-parallel ones.
   *
   * @throws WeightcastError WC_ENGINE_PROTOCOL when it reports more tensor-parallel workers than it has, WC_FILE_READ
   */
  async judge(
    reported: Checksums,
    limits: { readonly workers: number; readonly timeoutMs: number },
  ): Promise<ProofVerdict> {
    const tpSize = tensorParallelSize(reported);
    if (tpSize > limits.workers) {
      throw new WeightcastError(
        'WC_ENGINE_PROTOCOL',
        `it reports ${tpSize} tensor-parallel workers and has ${limits.workers}`,
      );
    }
    const page = await this.prepare(tpSize, AbortSignal.timeout(limits.timeoutMs));
    const verdict = judge(page.plan, page.digests, reported);
    // From a report that lacks workers it would be learned that theirs need no hash.
    const whole = verdict.workers >= limits.workers && verdict.unreported.length === 0;
    if (whole && verdict.mismatched.length === 0) {
      if (!this.#options.learned.has(tpSize)) this.#options.learned.set(tpSize, verdict);
    }
    return verdict;
  }

  /** SHA-256 over the sorted lines "name sha256" of every tensor; null unless each was hashed whole. */
  get checkpointDigest(): string | null {
    for (const { plan, digests } of this.#pages.values()) {
      const lines = plan.tensors.map((name) => {
        const index = plan.parameters.get(name)?.candidates.find((i) => plan.candidates[i]?.key === 'whole');
        return index === undefined ? null : `${name} ${digests[index]}\n`;
      });
      if (lines.every((line) => line !== null))
        return createHash('sha256').update(lines.sort().join('')).digest('hex');
    }
    return null;
  }
}

/** Workers report under 'dp0:pp0:pcp0:tp1': the tensor-parallel size is one more than the largest tp. */
export function tensorParallelSize(reported: Checksums): number {
  let size = 1;
  for (const worker of reported.keys()) {
    size = Math.max(size, 1 + Number(/(?:^|:)tp(\d{1,5})(?:$|:)/.exec(worker)?.[1] ?? 0));
  }
  return size;
}

/** One a candidate: those that are known, and the others hashed. */
async function digestsOf(
  { candidates }: ProofPlan,
  signal: AbortSignal,
  { known = null, onProgress }: DigestOptions,
): Promise<string[]> {
  if (known === null) return hashed(candidates, signal, onProgress);
  const found = candidates.map((candidate) => knownOf(candidate, known));
  const unknown = candidates.filter((_, index) => found[index] === null);
  const rest = (await hashed(unknown, signal, onProgress))[Symbol.iterator]();
  return found.map((digest) => digest ?? (rest.next().value as string));
}

function knownOf({ segments }: Candidate, known: KnownDigests): string | null {
  const [segment] = segments;
  if (segment === undefined || segments.length > 1 || segment.blocks !== 1) return null;
  return known(segment.path, segment.offset, segment.blockBytes);
}

async function hashed(
  candidates: readonly Candidate[],
  signal: AbortSignal,
  onProgress: DigestOptions['onProgress'],
): Promise<string[]> {
  signal.throwIfAborted();
  if (candidates.length === 0) return [];
  const { job, totalBytes } = await runInSlices(hashJobSteps({ candidates }), signal);
  const digests = await jobResult(
    () => native().sha256(job, (bytes) => onProgress(bytes, totalBytes)),
    signal,
    'WC_FILE_READ',
    { phase: 'preflight' },
  );
  return Array.from({ length: digests.length / 32 }, (_, i) => digestAt(digests, i));
}
