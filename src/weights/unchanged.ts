/** Whether files are still those that were opened: somebody may write to a checkpoint while it is pushed. */
import type { BigIntStats } from 'node:fs';
import { stat } from 'node:fs/promises';
import { WeightcastError } from '../errors.js';
import { unlessStalled } from '../waits.js';
import type { CheckpointFile } from './checkpoint.js';

/** Equal stamps: the same file, and nobody wrote to it in between (to the clock's tick of a few milliseconds). */
export function stampOf({ dev, ino, size, mtimeNs }: BigIntStats): string {
  return `${dev}:${ino}:${size}:${mtimeNs}`;
}

/** Of a file system that hangs each takes a thread of Node's pool of four with it, and others need that: names of hosts, the record of the push. */
const AT_ONCE = 2;

/**
 * Holds the files by their paths against what they were when they were opened.
 *
 * @throws WeightcastError WC_CHECKPOINT_CHANGED, also for a file that is gone, unless that does no harm any more; WC_FILE_READ when the file system hangs
 */
export async function requireUnchanged(
  files: readonly CheckpointFile[],
  { mayBeGone = false }: { readonly mayBeGone?: boolean } = {},
): Promise<void> {
  const left = files.values();
  const look = async () => {
    for (const { path, stamp } of left) {
      const now = await unlessStalled(
        stat(path, { bigint: true }).catch(() => null),
        (why) => hangs(path, why),
      );
      if (now === null && mayBeGone) continue;
      if (now !== null && stampOf(now) === stamp) continue;
      throw new WeightcastError(
        'WC_CHECKPOINT_CHANGED',
        `${path} ${now === null ? 'was removed' : 'was written to'} since it was opened`,
        { details: { path } },
      );
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, look));
}

function hangs(path: string, why: string): WeightcastError {
  return new WeightcastError('WC_FILE_READ', `${path}: ${why}`, {
    remedy: 'Its file system hangs: look at the mount (df, dmesg), and push again when it answers.',
    details: { path },
  });
}
