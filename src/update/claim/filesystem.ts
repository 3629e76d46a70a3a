/** A state directory may lie on a filesystem that hangs: an operation on one can't be ended, only no longer be waited for. */
import { WeightcastError } from '../../errors.js';

/** One that takes longer hangs: nothing dangerous is asked of engines then. */
export const STALL_MS = 15_000;

export class Stalled extends Error {}

/** @throws WeightcastError WC_STATE_DIR when `work` does not end in time; it goes on */
export async function withinTime<T>(work: Promise<T>, path: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(unwritable(path, new Stalled(`no answer within ${STALL_MS} ms`))),
      STALL_MS,
    );
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

export function unwritable(path: string, cause: unknown): WeightcastError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new WeightcastError('WC_STATE_DIR', `${path} can't be written: ${why}`, { cause });
}
