import { setTimeout as sleep } from 'node:timers/promises';
import { asWeightcastError, WeightcastError } from '../../../errors.js';

export interface WaitOptions {
  /** Milliseconds. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds between two looks. */
  readonly pollMs: number;
  /** Told now and then for how long the wait has lasted, milliseconds. */
  readonly onWaiting?: ((elapsedMs: number) => void) | undefined;
}

const TELL_MS = 10_000;

/**
 * Looks until there is something.
 *
 * @param what for the error: 'an orchestrator that …'
 * @throws WeightcastError WC_RENDEZVOUS_TIMEOUT, WC_UPDATE_ABORTED; what `look` throws
 */
export async function waitFor<T>(
  what: string,
  look: () => Promise<T | null>,
  { timeoutMs, signal, pollMs, onWaiting }: WaitOptions,
): Promise<T> {
  const startedMs = performance.now();
  for (let tellMs = TELL_MS; ; ) {
    if (signal?.aborted) throw asWeightcastError(signal.reason, 'WC_UPDATE_ABORTED');
    const found = await look();
    if (found !== null) return found;
    const elapsedMs = performance.now() - startedMs;
    if (elapsedMs >= timeoutMs) {
      throw new WeightcastError('WC_RENDEZVOUS_TIMEOUT', `${what}: none within ${timeoutMs / 1000} s`, {
        remedy: 'Check that both sides see the same run folder, and that the other side runs.',
      });
    }
    if (elapsedMs >= tellMs) {
      tellMs += TELL_MS;
      onWaiting?.(elapsedMs);
    }
    const delayMs = Math.max(1, Math.min(pollMs, timeoutMs - elapsedMs));
    await sleep(delayMs, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
  }
}
