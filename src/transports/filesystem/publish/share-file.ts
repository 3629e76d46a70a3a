/** A file that is to be there a second time, without its bytes being written again. */
import { constants } from 'node:fs';
import { copyFile, link } from 'node:fs/promises';
import { codeOf, writeError } from './durable.js';

/** What systems say that can't share blocks, or not between these two places, and of a file with as many names as it can have. */
const CAN_NOT: ReadonlySet<unknown> = new Set([
  ...['ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'ENOTTY', 'EXDEV', 'EINVAL', 'EPERM', 'EBADF', 'ETXTBSY', 'EMLINK'],
]);
const SHARE = constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE;

export interface ShareOptions {
  /** Whether the very file may get a second name where blocks can't be shared: only for one that nobody writes to again, of an owner who owns both places. */
  readonly mayLink: boolean;
}

/**
 * Asks a file system that can share blocks between files (btrfs, XFS, bcachefs) to do that.
 *
 * @param target must not be there yet
 * @returns false where it can't, and nothing is there
 * @throws WeightcastError WC_FILE_WRITE
 */
export async function shareFile(source: string, target: string, { mayLink }: ShareOptions): Promise<boolean> {
  if (await could(target, copyFile(source, target, SHARE))) return true;
  return mayLink && could(target, link(source, target));
}

async function could(target: string, work: Promise<void>): Promise<boolean> {
  try {
    await work;
    return true;
  } catch (error) {
    if (CAN_NOT.has(codeOf(error))) return false;
    throw writeError(target, error);
  }
}
