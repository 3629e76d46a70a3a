/** Proof by digest, before the resume: the engine's own weight checker against the SHA-256 of what was sent. */
import { asWeightcastError, WeightcastError } from '../errors.js';
import { type EngineLink, onAll } from '../fleet/engine.js';
import type { ProofVerdict } from '../weights/proof.js';
import type { Attempt } from './attempt.js';
import type { DigestBook } from './digests.js';
import { nameOf } from './lacking.js';
import { settled } from './late-answers.js';
import type { ProofReport } from './types.js';

/**
 * Proves engines that received a version. One that holds other bytes, or that can't be asked, is quarantined; one whose version has no checker,
 * or whose report covers nothing, stays 'received'.
 */
export async function verifyByDigest(
  attempt: Attempt,
  book: DigestBook,
  engines: readonly EngineLink[],
): Promise<void> {
  const { ledger, settings, facts } = attempt;
  const { failed } = await onAll(engines, async (engine) => {
    const exchange = engine.admin.checksums();
    if (exchange === null) {
      ledger.proof(engine.id, unproved(`${nameOf(engine.admin)} has no weight checker`));
      return;
    }
    const began = performance.now();
    const reported = await settled(attempt, engine, settings.timeouts.checksum, (timeoutMs) =>
      engine.call(exchange, { timeoutMs }),
    );
    const engineMs = performance.now() - began;
    const workers = facts.get(engine.id)?.workers ?? reported.size;
    const verdict = await book.judge(reported, { workers, timeoutMs: settings.timeouts.checksum });
    const proof = proofReport(verdict, engineMs, workers);
    ledger.proof(engine.id, proof);
    if (proof.mismatched.length > 0) throw mismatch(proof, book.isPublished ? 'published' : 'sent');
    if (verdict.workers < workers) throw silentWorkers(verdict.workers, workers);
    if (proof.proved > 0) ledger.set(engine.id, 'verified');
    else if (settings.verify === 'digest') throw unprovable(proof);
  });
  for (const [id, error] of failed) {
    ledger.quarantine(id, asWeightcastError(error, 'WC_VERIFY_MISMATCH', { engine: id, phase: 'verify' }));
  }
}

/** A proof of nothing, with the reason. */
export function unproved(note: string): ProofReport {
  return { method: 'none', proved: 0, total: 0, mismatched: [], unprovable: [], engineMs: 0, note };
}

function proofReport(verdict: ProofVerdict, engineMs: number, workers: number): ProofReport {
  const notes = [
    verdict.proved.length === 0
      ? 'the engine reports no parameter that can be compared with the checkpoint'
      : null,
    verdict.unreported.length > 0
      ? `${verdict.unreported.length} tensors of the checkpoint were reported by no worker: ${some(verdict.unreported)}`
      : null,
    verdict.workers < workers ? `${verdict.workers} of ${workers} workers reported` : null,
  ].filter((note) => note !== null);
  return {
    method: 'digest',
    proved: verdict.proved.length,
    total: verdict.total,
    mismatched: verdict.mismatched.map(({ worker, parameter }) => `${worker} ${parameter}`),
    unprovable: verdict.unprovable.map(({ worker, parameter, reason }) => ({
      parameter: `${worker} ${parameter}`,
      reason,
    })),
    engineMs,
    note: notes.length === 0 ? null : notes.join('; '),
  };
}

function some(names: readonly string[]): string {
  return names.slice(0, 5).join(', ') + (names.length > 5 ? ', …' : '');
}

const OTHERWISE =
  'an engine that was started with another dtype or quantises what it loads can only be proved by --verify fingerprint.';
const REMEDIES = {
  sent: `Heal it by a filesystem push, and report this; ${OTHERWISE}`,
  published: `Publish it again if its files are not any more what their manifest says (openPublished with verify all tells); ${OTHERWISE}`,
};

function mismatch(proof: ProofReport, what: keyof typeof REMEDIES): WeightcastError {
  return new WeightcastError(
    'WC_VERIFY_MISMATCH',
    `${proof.mismatched.length} of ${proof.total} parameters are not the bytes that were ${what}: ${some(proof.mismatched)}`,
    { remedy: REMEDIES[what] },
  );
}

function silentWorkers(reported: number, workers: number): WeightcastError {
  return new WeightcastError(
    'WC_VERIFY_MISMATCH',
    `its weight checker reports ${reported} of ${workers} workers`,
  );
}

function unprovable(proof: ProofReport): WeightcastError {
  return new WeightcastError(
    'WC_VERIFY_MISMATCH',
    `a digest was asked for, and none could be compared: ${proof.note}`,
    {
      remedy: 'Use --verify auto or fingerprint for engines that repack what they load.',
    },
  );
}
