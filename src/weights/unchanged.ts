/** Whether files are still those that were opened: somebody may write to a checkpoint while it is pushed. */
import type { BigIntStats } from 'node:fs';
import { stat } from 'node:fs/promises';
import { WeightcastError } from '../errors.js';
import type { CheckpointFile } from './checkpoint.js';

/** Equal stamps: the same file, and nobody wrote to it in between (to the clock's tick of a few milliseconds). */
export function stampOf({ dev, ino, size, mtimeNs }: BigIntStats): string {
  return `${dev}:${ino}:${size}:${mtimeNs}`;
}

/**
 * Holds the files by their paths against what they were when they were opened.
 *
 * @throws WeightcastError WC_CHECKPOINT_CHANGED; also for a file that is gone, unless that does no harm any more
 */
export async function requireUnchanged(
  files: readonly CheckpointFile[],
  { mayBeGone = false }: { readonly mayBeGone?: boolean } = {},
): Promise<void> {
  await Promise.all(
    files.map(async ({ path, stamp }) => {
      const now = await stat(path, { bigint: true }).catch(() => null);
      if (now === null && mayBeGone) return;
      if (now !== null && stampOf(now) === stamp) return;
      throw new WeightcastError(
        'WC_CHECKPOINT_CHANGED',
        `${path} ${now === null ? 'was removed' : 'was written to'} since it was opened`,
        { details: { path } },
      );
    }),
  );
}
