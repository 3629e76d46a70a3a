/** The report of an update, and the error that carries it when not every engine serves the new version. */
import { asWeightcastError, type WeightcastError } from '../errors.js';
import type { Checkpoint } from '../weights/checkpoint.js';
import { reportError, UpdateError } from './error.js';
import type { Ledger } from './ledger.js';
import type { EngineReport, EngineState, UpdateReport } from './types.js';

export interface ReportParts {
  readonly ledger: Ledger;
  readonly head: Omit<UpdateReport, 'outcome' | 'engines' | 'phases' | 'pauseMs' | 'notes' | 'error'>;
  /** What ended the update before its time, if anything did. */
  readonly error: unknown;
}

/**
 * @returns the report, when every engine serves the new version
 * @throws UpdateError
 */
export function conclude({ ledger, head, error }: ReportParts): UpdateReport {
  const pauseMs = ledger.pauseMs();
  const { engines, phases } = ledger.close();
  const outcome = outcomeOf(engines);
  const first = error ?? ledger.firstError();
  const cause =
    outcome === 'updated'
      ? null
      : asWeightcastError(first ?? new Error('no engine took the new version'), 'WC_UPDATE_FAILED');
  const report: UpdateReport = {
    ...head,
    outcome,
    engines,
    phases,
    pauseMs,
    notes: ledger.notes,
    error: cause === null ? null : reportError(cause),
  };
  if (cause === null) return report;
  throw new UpdateError(cause.code, explain(outcome, engines, cause), report, {
    engine: cause.engine ?? undefined,
    phase: cause.phase ?? undefined,
    remedy: cause.remedy,
    cause,
  });
}

const IN_BETWEEN: readonly EngineState[] = ['quarantined', 'paused', 'receiving', 'received', 'verified'];

function outcomeOf(engines: readonly EngineReport[]): UpdateReport['outcome'] {
  if (engines.some((engine) => IN_BETWEEN.includes(engine.state))) return 'quarantined';
  return engines.every((engine) => engine.state === 'serving-new') ? 'updated' : 'failed';
}

function explain(
  outcome: UpdateReport['outcome'],
  engines: readonly EngineReport[],
  cause: WeightcastError,
): string {
  const named = (states: readonly EngineState[]) =>
    engines.filter((engine) => states.includes(engine.state)).map((engine) => engine.id);
  const stuck = named(IN_BETWEEN);
  const unknown = named(['unknown']);
  if (outcome === 'quarantined') return `${cause.message} (paused and excluded: ${abridged(stuck)})`;
  if (unknown.length === engines.length && cause.code === 'WC_UPDATE_BUSY') return cause.message;
  const rest = unknown.length === 0 ? 'the fleet' : 'the rest of the fleet';
  const asked = unknown.length === 0 ? '' : `; what these serve is not known: ${abridged(unknown)}`;
  return `${cause.message} (nothing changed: ${rest} serves the old version${asked})`;
}

/** Engines that one message names at most; the report has them all. */
const NAMED = 16;

function abridged(engines: readonly string[]): string {
  const named = engines.slice(0, NAMED).join(', ');
  return engines.length > NAMED ? `${named} and ${engines.length - NAMED} more` : named;
}

/** Facts of the checkpoint for a report, also when it could not be opened. */
export function describeWeights(
  path: string,
  checkpoint: Checkpoint | null,
  digest: string | null,
): UpdateReport['weights'] {
  return {
    path,
    tensors: checkpoint?.tensors.length ?? 0,
    bytes: checkpoint?.byteLength ?? 0,
    files: checkpoint?.files.length ?? 0,
    digest,
  };
}
