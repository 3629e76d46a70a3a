import { asWeightcastError, type ErrorCode, type ErrorDetails, WeightcastError } from '../errors.js';
import type { ErrorReport, UpdateReport } from './types.js';

/** Thrown by an update whose outcome is not 'updated'; `report` tells what every engine serves. */
export class UpdateError extends WeightcastError {
  readonly report: UpdateReport;

  constructor(code: ErrorCode, message: string, report: UpdateReport, details: ErrorDetails = {}) {
    super(code, message, details);
    this.name = 'UpdateError';
    this.report = report;
  }

  /** Also across two copies of the package, like its base; a plain WeightcastError is none. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return value instanceof WeightcastError && 'report' in value;
  }
}

/** Plain data of an error for a report. */
export function reportError(error: unknown): ErrorReport {
  const { code, message, engine, phase, remedy } = asWeightcastError(error, 'WC_UPDATE_FAILED');
  return { code, message, engine, phase, remedy };
}
