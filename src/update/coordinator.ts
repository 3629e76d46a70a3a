/** The part of an update that touches engines: pause → transfer → verify → reset → resume, and what to do when a step fails. */
import { asWeightcastError, WeightcastError } from '../errors.js';
import { type Attempt, type Carrier, enginesIn } from './attempt.js';
import type { DigestBook } from './digests.js';
import { verifyByFingerprint } from './fingerprint.js';
import { heal } from './heal.js';
import { rememberLateEngines } from './late-answers.js';
import { pauseAll, resetCaches, resume } from './pause.js';
import { requireVersions } from './read-back.js';
import { isTakenOver, unlessTakenOver } from './taken-over.js';
import type { TransferReport } from './types.js';
import { unproved, verifyByDigest } from './verify.js';

export interface Prepared {
  readonly attempt: Attempt;
  readonly carrier: Carrier;
  /** Digests of the checkpoint: taken before the pause where `digest` is set, on the spot where an engine has to be healed. */
  readonly book: DigestBook;
  readonly digest: boolean;
  readonly fingerprint: boolean;
  readonly onTransferred: (transfer: TransferReport) => void;
}

/**
 * Pauses, transfers, proves and resumes. The ledger tells what became of each engine.
 *
 * @throws what kept the fleet from being paused: everybody was resumed on the old version then; or an interruption, after which the ledger is as defined as
 * after any failure; WC_UPDATE_BUSY when another push took the engines over: nothing is asked of them any more
 */
export function carryOut(prepared: Prepared): Promise<void> {
  return unlessTakenOver(prepared.attempt, () => pauseAndCarryOut(prepared));
}

async function pauseAndCarryOut(prepared: Prepared): Promise<void> {
  const { attempt } = prepared;
  await pauseAll(attempt);
  attempt.ledger.enter('transfer');
  await carryOutPaused(prepared);
  if (prepared.fingerprint) await fingerprint(prepared);
  rememberLateEngines(attempt);
  explainMissingProof(prepared);
  if (attempt.signal.aborted && enginesIn(attempt, 'serving-new').length < attempt.engines.length) {
    throw new WeightcastError('WC_UPDATE_ABORTED', 'interrupted');
  }
}

/** What follows the pause, until every engine serves or is quarantined: the ledger tells. @throws WeightcastError WC_UPDATE_BUSY, as {@link carryOut} */
export function carryOutPaused(prepared: Prepared): Promise<void> {
  return unlessTakenOver(prepared.attempt, () => carryOutAndHeal(prepared));
}

async function carryOutAndHeal(prepared: Prepared): Promise<void> {
  const { attempt, book } = prepared;
  try {
    await transferAndResume(prepared);
  } catch (error) {
    if (isTakenOver(error)) throw error;
    // Whatever was thrown where nothing should throw: nobody stays in between.
    for (const engine of enginesIn(attempt, 'receiving', 'received', 'verified')) {
      attempt.ledger.quarantine(engine.id, error);
    }
    for (const engine of enginesIn(attempt, 'paused')) attempt.ledger.fail(engine.id, error);
  }
  try {
    if (enginesIn(attempt, 'paused', 'quarantined').length > 0) await attempt.journal.mine();
    await heal(attempt, book);
  } catch (error) {
    if (isTakenOver(error)) throw error;
    for (const engine of enginesIn(attempt, 'paused', 'receiving', 'received', 'verified')) {
      attempt.ledger.quarantine(
        engine.id,
        asWeightcastError(error, 'WC_UPDATE_QUARANTINED', { phase: 'heal' }),
      );
    }
  }
}

async function transferAndResume({ attempt, carrier, book, digest, onTransferred }: Prepared): Promise<void> {
  const { ledger } = attempt;
  onTransferred(await carrier.transfer(attempt));
  if (digest) {
    await attempt.journal.mine();
    ledger.enter('verify');
    await verifyByDigest(attempt, book, enginesIn(attempt, 'received'));
  }
  await requireVersions(attempt, enginesIn(attempt, 'received', 'verified'));
  await resetCaches(attempt);
  const ready = enginesIn(attempt, 'received', 'verified');
  if (ready.length === 0) return;
  ledger.enter('resume');
  await resume(attempt, ready, 'serving-new');
}

/** What a fingerprint excludes is healed where that is allowed, and then has to agree. */
async function fingerprint({ attempt, book }: Prepared): Promise<void> {
  const before = attempt.ledger.in('quarantined').length;
  await verifyByFingerprint(attempt);
  if (attempt.ledger.in('quarantined').length === before) return;
  await heal(attempt, book);
  await verifyByFingerprint(attempt);
}

function explainMissingProof({ attempt, digest, fingerprint }: Prepared): void {
  if (digest || fingerprint) return;
  for (const engine of enginesIn(attempt, 'serving-new')) {
    attempt.ledger.proofUnlessDigest(engine.id, unproved('--verify none'));
  }
}
