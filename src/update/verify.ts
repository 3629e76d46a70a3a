/** Proof by digest, before the resume: the engine's own weight checker against the SHA-256 of what was sent. */
import { asWeightcastError, WeightcastError } from '../errors.js';
import { type EngineLink, onAll } from '../fleet/engine.js';
import { type Attempt, enginesIn } from './attempt.js';
import type { DigestBook } from './digests.js';
import type { ProofReport } from './types.js';

/** Proves every engine that received the version. One that holds other bytes is quarantined; one that can't be asked stays 'received'. */
export async function verifyByDigest(
  attempt: Attempt,
  book: DigestBook,
  engines: readonly EngineLink[],
): Promise<void> {
  const { ledger, settings } = attempt;
  const { failed } = await onAll(engines, async (engine) => {
    const exchange = engine.admin.checksums();
    if (exchange === null) {
      ledger.proof(engine.id, unproved(`vLLM ${engine.admin.version} has no weight checker`));
      return;
    }
    const began = performance.now();
    const reported = await engine.call(exchange, { timeoutMs: settings.timeouts.checksum });
    const engineMs = performance.now() - began;
    const verdict = await book.judge(reported);
    const proof: ProofReport = {
      method: 'digest',
      proved: verdict.proved.length,
      total: verdict.total,
      mismatched: verdict.mismatched.map(({ worker, parameter }) => `${worker} ${parameter}`),
      unprovable: verdict.unprovable.map(({ worker, parameter, reason }) => ({
        parameter: `${worker} ${parameter}`,
        reason,
      })),
      engineMs,
      note:
        verdict.proved.length === 0
          ? 'the engine reports no parameter that can be compared with the checkpoint'
          : null,
    };
    ledger.proof(engine.id, proof);
    if (proof.mismatched.length > 0) throw mismatch(proof);
    if (proof.proved > 0) ledger.set(engine.id, 'verified');
  });
  for (const [id, error] of failed) {
    ledger.quarantine(id, asWeightcastError(error, 'WC_VERIFY_MISMATCH', { engine: id, phase: 'verify' }));
  }
}

export async function verifyReceived(attempt: Attempt, book: DigestBook | null): Promise<void> {
  if (book === null) return;
  attempt.ledger.enter('verify');
  await verifyByDigest(attempt, book, enginesIn(attempt, 'received'));
}

export function unproved(note: string): ProofReport {
  return { method: 'none', proved: 0, total: 0, mismatched: [], unprovable: [], engineMs: 0, note };
}

function mismatch(proof: ProofReport): WeightcastError {
  const shown = proof.mismatched.slice(0, 5).join(', ');
  return new WeightcastError(
    'WC_VERIFY_MISMATCH',
    `${proof.mismatched.length} of ${proof.total} parameters are not the bytes that were sent: ${shown}${proof.mismatched.length > 5 ? ', …' : ''}`,
  );
}
