/** The files of a version as they lie there, held against its manifest. */
import { constants } from 'node:fs';
import { lstat, open } from 'node:fs/promises';
import { join } from 'node:path';
import { WeightcastError } from '../../../errors.js';
import type { Manifest } from '../manifest.js';

const AT_ONCE = 16;
const GONE: ReadonlySet<unknown> = new Set(['ENOENT', 'ENOTDIR', 'ESTALE']);

/** True for the system's errors that say that something is not there, or (ESTALE, on NFS) no longer. */
export function isGone(error: unknown): boolean {
  return GONE.has((error as NodeJS.ErrnoException | null)?.code);
}

/** Everything that a manifest names, with the size that it must have. */
export function filesOfManifest({
  shards,
  files,
}: Manifest): readonly { name: string; byteLength: number }[] {
  return [...shards, ...files].map(({ name, byteLength }) => ({ name, byteLength }));
}

/**
 * Looks at the folder and at each file: there, no symbolic link, of its size. Each is opened, since that is when an NFS client asks for the size anew.
 *
 * @throws WeightcastError WC_VERSION_CORRUPT, WC_FILE_READ
 */
export async function requireSizes(
  folder: string,
  manifest: Manifest,
  signal: AbortSignal | null,
): Promise<void> {
  if (!(await lstat(folder).catch(orUnreadable(folder)))?.isDirectory())
    throw corrupt(folder, 'not a folder');
  const files = filesOfManifest(manifest);
  let next = 0;
  const worker = async () => {
    for (let file = files[next++]; file !== undefined; file = files[next++]) {
      signal?.throwIfAborted();
      await requireSize(join(folder, file.name), file.byteLength);
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, files.length) }, worker));
}

async function requireSize(path: string, byteLength: number): Promise<void> {
  // NONBLOCK: opening a pipe would wait for its writer.
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    orUnreadable(path),
  );
  if (file === null) throw corrupt(path, 'the manifest names it, and it is not there', { missing: true });
  try {
    const status = await file.stat();
    if (!status.isFile()) throw corrupt(path, 'not a regular file');
    if (status.size === byteLength) return;
    throw corrupt(path, `${status.size} bytes, and the manifest says ${byteLength}`);
  } finally {
    await file.close();
  }
}

/** For a catch: null where nothing is there. */
function orUnreadable(path: string): (error: NodeJS.ErrnoException) => null {
  return (cause) => {
    if (isGone(cause)) return null;
    if (cause.code === 'ELOOP') throw corrupt(path, 'a symbolic link');
    throw new WeightcastError('WC_FILE_READ', `${path}: ${cause.message}`, {
      cause,
      details: { path, code: cause.code ?? null },
    });
  };
}

export function corrupt(
  path: string,
  message: string,
  details: Record<string, unknown> = {},
): WeightcastError {
  return new WeightcastError('WC_VERSION_CORRUPT', `${path}: ${message}`, { details: { path, ...details } });
}
