/** A push that was taken for dead, frozen or on a host that was suspended, and comes back: its engines are somebody else's now. */
import { hasCode } from '../errors.js';
import type { Attempt } from './attempt.js';

/** Runs `work`; when it finds that another push has taken over, what is known of the engines is past. @throws what `work` throws */
export async function unlessTakenOver<T>({ engines, ledger }: Attempt, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (isTakenOver(error)) {
      for (const { id } of engines) {
        ledger.fail(id, error);
        ledger.set(id, 'unknown', 'another push took it over');
      }
    }
    throw error;
  }
}

/** Whether a journal has said so. */
export function isTakenOver(error: unknown): boolean {
  return hasCode(error, 'WC_UPDATE_BUSY');
}
