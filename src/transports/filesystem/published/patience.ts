/** Waiting for what others write and remove, on file systems whose caches tell it late. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type ErrorCode, WeightcastError } from '../../../errors.js';

const FIRST_MS = 20;
const LONGEST_MS = 1_000;
/** Also who doesn't want to wait looks again for so long when a version is renamed away or back under his eyes. */
const MOMENT_MS = 2_000;

const PASSING: ReadonlySet<ErrorCode> = new Set([
  ...(['WC_VERSION_NOT_FOUND', 'WC_MANIFEST_INVALID', 'WC_VERSION_CORRUPT', 'WC_FILE_READ'] as const),
  ...(['WC_CHECKPOINT_NOT_FOUND', 'WC_CHECKPOINT_SHARD_MISSING', 'WC_CHECKPOINT_CHANGED'] as const),
]);

/** False for what another look won't change: bytes that have another digest, wrong options. */
export function mayPass(error: unknown): boolean {
  return error instanceof WeightcastError && PASSING.has(error.code) && error.details['bytes'] !== true;
}

/**
 * Looks until there is something, or until what keeps it from being there can no longer pass.
 *
 * @throws what `look` threw last; the signal's reason
 */
export async function untilThere<T>(
  { waitMs, signal }: { readonly waitMs: number; readonly signal: AbortSignal | null },
  look: () => Promise<T>,
): Promise<T> {
  const beganMs = performance.now();
  for (let delayMs = FIRST_MS; ; delayMs = Math.min(LONGEST_MS, 2 * delayMs)) {
    signal?.throwIfAborted();
    try {
      return await look();
    } catch (error) {
      signal?.throwIfAborted();
      if (!mayPass(error)) throw error;
      const vanished = (error as WeightcastError).details['vanished'] === true;
      const leftMs = Math.max(waitMs, vanished ? MOMENT_MS : 0) - (performance.now() - beganMs);
      if (leftMs <= 0) throw error;
      const options = signal === null ? {} : { signal };
      await sleep(Math.min(delayMs, leftMs), undefined, options).catch(() => undefined);
    }
  }
}
