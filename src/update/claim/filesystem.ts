/** A state directory may lie on a filesystem that hangs: an operation on one can't be ended, only no longer be waited for. */
import { WeightcastError } from '../../errors.js';
import { unlessStalled } from '../../waits.js';

export class Stalled extends Error {}

/** Nothing dangerous is asked of engines then. @throws WeightcastError WC_STATE_DIR when `work` does not end in time; it goes on */
export function withinTime<T>(work: Promise<T>, path: string): Promise<T> {
  return unlessStalled(work, (why) => unwritable(path, new Stalled(why)));
}

export function unwritable(path: string, cause: unknown): WeightcastError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new WeightcastError('WC_STATE_DIR', `${path} can't be written: ${why}`, { cause });
}
