/** What an ending means: exit codes, errors as plain data. */
import { asWeightcastError, ERRORS, WeightcastError } from '../errors.js';
import type { ErrorReport, UpdateReport } from '../update/types.js';

export const EXIT = {
  /** Updated and verified. */
  ok: 0,
  /** Failed; the fleet serves the old version. */
  failed: 1,
  usage: 2,
  /** Some engine is paused and excluded. */
  quarantined: 3,
  /** Interrupted before anything had begun. */
  interrupted: 130,
} as const;

/** The report that an UpdateError carries; null for every other error. */
export function reportOf(error: unknown): UpdateReport | null {
  if (!(error instanceof WeightcastError) || !('report' in error)) return null;
  return (error as { report: UpdateReport }).report;
}

/** True when an engine was, or may have been, changed in any way. */
export function touched(report: UpdateReport): boolean {
  return report.engines.some((engine) =>
    engine.history.some(({ state }) => state !== 'unknown' && state !== 'serving-old'),
  );
}

export function exitCodeOfReport(report: UpdateReport, interrupted: boolean): number {
  if (report.outcome === 'updated') return EXIT.ok;
  if (report.outcome === 'quarantined') return EXIT.quarantined;
  return interrupted && !touched(report) ? EXIT.interrupted : EXIT.failed;
}

export function exitCodeOfError(error: unknown, interrupted: boolean): number {
  const report = reportOf(error);
  if (report !== null) return exitCodeOfReport(report, interrupted);
  if (error instanceof WeightcastError && error.family === 'config') return EXIT.usage;
  if (leavesPaused(error)) return EXIT.quarantined;
  return interrupted ? EXIT.interrupted : EXIT.failed;
}

/** Some engine stays paused, or holds part of a version, by what an operation without a report says. */
function leavesPaused(error: unknown): boolean {
  if (!(error instanceof WeightcastError)) return false;
  const { unresumed } = error.details;
  return error.code === 'WC_UPDATE_QUARANTINED' || (Array.isArray(unresumed) && unresumed.length > 0);
}

/** Plain data of anything thrown. */
export function errorReport(error: unknown): ErrorReport {
  if (error instanceof Error && Object.hasOwn(ERRORS, String((error as { code?: unknown }).code))) {
    const { code, message, engine, phase, remedy } = asWeightcastError(error, 'WC_UPDATE_FAILED');
    return { code, message, engine, phase, remedy };
  }
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  const remedy = 'This is a defect in weightcast: please report it.';
  return { code: 'UNKNOWN', message, engine: null, phase: null, remedy };
}
