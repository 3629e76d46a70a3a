/** SHA-256 of what is sent, taken before the pause, for every form in which an engine may report it. */
import type { Checksums } from '../engines/admin.js';
import { asWeightcastError } from '../errors.js';
import { native } from '../native.js';
import type { Checkpoint } from '../weights/checkpoint.js';
import {
  candidatesFor,
  judge,
  narrow,
  type ProofPlan,
  type ProofVerdict,
  toHashJob,
} from '../weights/proof.js';

export interface DigestOptions {
  readonly signal: AbortSignal;
  readonly onProgress: (bytes: number, totalBytes: number) => void;
}

/** Digests of one checkpoint, by tensor-parallel size. */
export class DigestBook {
  readonly #checkpoint: Checkpoint;
  readonly #options: DigestOptions;
  readonly #pages = new Map<number, { readonly plan: ProofPlan; readonly digests: readonly string[] }>();

  constructor(checkpoint: Checkpoint, options: DigestOptions) {
    this.#checkpoint = checkpoint;
    this.#options = options;
  }

  /** Hashes the candidates of engines with this tensor-parallel size, once. `learned` narrows them to what earlier proofs showed. */
  async prepare(tpSize: number, learned: ProofPlan | null): Promise<void> {
    if (this.#pages.has(tpSize)) return;
    const plan = learned ?? candidatesFor(this.#checkpoint.tensors, tpSize);
    this.#pages.set(tpSize, { plan, digests: await hashPlan(plan, this.#options) });
  }

  /** Compares what an engine reports; hashes on the spot when its tensor-parallel size is not the one expected. */
  async judge(reported: Checksums): Promise<ProofVerdict> {
    const tpSize = tensorParallelSize(reported);
    await this.prepare(tpSize, null);
    const page = this.#pages.get(tpSize);
    if (page === undefined) throw new Error('unreachable: the page was just prepared');
    return judge(page.plan, page.digests, reported);
  }
}

/** Workers report under 'dp0:pp0:pcp0:tp1': the tensor-parallel size is one more than the largest tp. */
export function tensorParallelSize(reported: Checksums): number {
  return Math.max(
    1,
    ...[...reported.keys()].map((worker) => 1 + Number(/(?:^|:)tp(\d{1,4})(?:$|:)/.exec(worker)?.[1] ?? 0)),
  );
}

async function hashPlan(plan: ProofPlan, options: DigestOptions): Promise<string[]> {
  options.signal.throwIfAborted();
  const { job, totalBytes } = toHashJob(plan);
  const hash = native().sha256(job, (bytes) => options.onProgress(bytes, totalBytes));
  const cancel = () => hash.cancel();
  options.signal.addEventListener('abort', cancel, { once: true });
  try {
    const bytes = await hash.result;
    return Array.from({ length: bytes.length / 32 }, (_, i) =>
      Buffer.from(bytes.subarray(32 * i, 32 * i + 32)).toString('hex'),
    );
  } catch (error) {
    options.signal.throwIfAborted();
    throw asWeightcastError(error, 'WC_FILE_READ', { phase: 'preflight' });
  } finally {
    options.signal.removeEventListener('abort', cancel);
  }
}
