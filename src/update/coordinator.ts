/** One update from a to b: preflight → pause → transfer → verify → reset → resume, and what to do when a step fails. */
import { asWeightcastError, type WeightcastError } from '../errors.js';
import type { Checkpoint } from '../weights/checkpoint.js';
import { type Attempt, type Carrier, enginesIn } from './attempt.js';
import type { DigestBook } from './digests.js';
import { reportError, UpdateError } from './error.js';
import { verifyByFingerprint } from './fingerprint.js';
import { heal } from './heal.js';
import type { Ledger } from './ledger.js';
import { pauseAll, resetCaches, resume } from './pause.js';
import type { EngineReport, TransferReport, UpdateReport } from './types.js';
import { unproved, verifyReceived } from './verify.js';

export interface Prepared {
  readonly attempt: Attempt;
  readonly carrier: Carrier;
  /** null: no digests in this update. */
  readonly book: DigestBook | null;
  readonly fingerprint: boolean;
}

/** Runs the part that touches engines. Never throws for an engine's sake: the ledger tells. */
export async function carryOut(prepared: Prepared): Promise<TransferReport | null> {
  const { attempt, carrier, book } = prepared;
  await pauseAll(attempt);

  attempt.ledger.enter('transfer');
  const transfer = await carrier.transfer(attempt).catch((error: unknown) => {
    // Refused before anything was opened (an interruption): engines are as the ledger says.
    for (const engine of enginesIn(attempt, 'paused')) attempt.ledger.fail(engine.id, error);
    return null;
  });

  await verifyReceived(attempt, book);
  await resetCaches(attempt);
  const ready = enginesIn(attempt, 'received', 'verified');
  if (ready.length > 0) {
    attempt.ledger.enter('resume');
    await resume(attempt, ready, 'serving-new');
  }
  await heal(attempt, book);
  if (prepared.fingerprint) {
    const before = attempt.ledger.in('quarantined').length;
    await verifyByFingerprint(attempt);
    if (attempt.ledger.in('quarantined').length > before) {
      await heal(attempt, book);
      await verifyByFingerprint(attempt);
    }
  }
  explainMissingProof(prepared);
  return transfer;
}

function explainMissingProof({ attempt, book, fingerprint }: Prepared): void {
  if (book !== null || fingerprint) return;
  for (const engine of enginesIn(attempt, 'serving-new'))
    attempt.ledger.proof(engine.id, unproved('--verify none'));
}

export interface ReportParts {
  readonly ledger: Ledger;
  readonly head: Omit<UpdateReport, 'outcome' | 'engines' | 'phases' | 'pauseMs' | 'notes' | 'error'>;
  /** What ended the update before its time, if anything did. */
  readonly error: unknown;
}

/** The report; throws it inside an UpdateError unless every engine serves the new version. */
export function conclude({ ledger, head, error }: ReportParts): UpdateReport {
  const pauseMs = ledger.pauseMs();
  const { engines, phases } = ledger.close();
  const outcome = outcomeOf(engines);
  const first = error ?? ledger.firstError();
  const report: UpdateReport = {
    ...head,
    outcome,
    engines,
    phases,
    pauseMs,
    notes: ledger.notes,
    error: outcome === 'updated' || first === null ? null : reportError(first),
  };
  if (outcome === 'updated') return report;
  const cause = asWeightcastError(first ?? new Error('no engine took the new version'), 'WC_UPDATE_FAILED');
  throw new UpdateError(cause.code, explain(outcome, engines, cause), report, {
    engine: cause.engine ?? undefined,
    phase: cause.phase ?? undefined,
    remedy: cause.remedy,
    cause,
  });
}

function outcomeOf(engines: readonly EngineReport[]): UpdateReport['outcome'] {
  if (
    engines.some((engine) =>
      ['quarantined', 'paused', 'receiving', 'received', 'verified'].includes(engine.state),
    )
  )
    return 'quarantined';
  return engines.every((engine) => engine.state === 'serving-new') ? 'updated' : 'failed';
}

function explain(
  outcome: UpdateReport['outcome'],
  engines: readonly EngineReport[],
  cause: WeightcastError,
): string {
  if (outcome === 'failed') return `${cause.message} (nothing changed: the fleet serves the old version)`;
  const stuck = engines
    .filter((engine) => engine.state !== 'serving-new' && engine.state !== 'serving-old')
    .map((engine) => engine.id);
  return `${cause.message} (paused and excluded: ${stuck.join(', ')})`;
}

/** Facts of the checkpoint for a report, also when it could not be opened. */
export function describeWeights(path: string, checkpoint: Checkpoint | null): UpdateReport['weights'] {
  return {
    path,
    tensors: checkpoint?.tensors.length ?? 0,
    bytes: checkpoint?.byteLength ?? 0,
    files: checkpoint?.files.length ?? 0,
    digest: null,
  };
}
