import { statfs } from 'node:fs/promises';
import { WeightcastError } from '../../../errors.js';
import { writing } from './durable.js';

/** Of a manifest, for each tensor; measured at 250 to 300. */
const MANIFEST_BYTES_PER_TENSOR = 400;
const MANIFEST_BYTES = 65_536;

export interface Need {
  /** Sizes of the files, bytes. */
  readonly files: readonly number[];
  readonly tensors: number;
}

/** Bytes on a file system with blocks of this size, the manifest included. */
export function bytesNeeded({ files, tensors }: Need, blockBytes: number): number {
  const manifest = MANIFEST_BYTES + MANIFEST_BYTES_PER_TENSOR * tensors;
  return [...files, manifest].reduce((sum, bytes) => sum + Math.ceil(bytes / blockBytes) * blockBytes, 0);
}

/**
 * Holds what will be written against what is free for this user.
 *
 * @throws WeightcastError WC_PUBLISH_SPACE which says how much is missing, and where
 */
export async function requireSpace(directory: string, need: Need): Promise<void> {
  const { bavail, blocks, bsize } = await writing(directory, statfs(directory));
  // Object stores and some FUSE file systems have no size.
  if (blocks === 0) return;
  const free = bavail * bsize;
  const needed = bytesNeeded(need, bsize);
  if (needed <= free) return;
  throw new WeightcastError(
    'WC_PUBLISH_SPACE',
    `${directory}: the version needs ${needed} bytes, ${free} are free: ${needed - free} too few`,
    { details: { path: directory, needed, free, missing: needed - free } },
  );
}
