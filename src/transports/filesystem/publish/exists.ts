/** Whether a version is there already. */
import { lstat, open } from 'node:fs/promises';
import { join } from 'node:path';
import { WeightcastError } from '../../../errors.js';
import { MANIFEST_NAME } from '../layout.js';
import { type Manifest, readManifest } from '../manifest.js';

export async function isThere(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}

/** Says who published it, where that can be read. */
export async function existsError(step: string, cause?: unknown): Promise<WeightcastError> {
  const manifest = await readManifest(step).catch(() => null);
  const who =
    manifest === null
      ? 'is there, and no manifest of weightcast in it'
      : `was published ${manifest.created} by process ${manifest.publisher.pid} on ${manifest.publisher.host}`;
  return new WeightcastError('WC_PUBLISH_EXISTS', `${step} ${who}`, {
    cause,
    details: { path: step, digest: manifest?.digest ?? null },
  });
}

/** The manifest in a folder; null where there is none that can be believed. */
export async function manifestOf(step: string): Promise<Manifest | null> {
  return readManifest(step).catch(() => null);
}

/** How a manifest that was written to its end ends; no part of one does. */
export const END_OF_MANIFEST = '\n}\n';

/**
 * Whether a version has been published into the folder. A manifest that was only begun is none: its writer may have died. What it says is not looked at,
 * since a later weightcast may have written it.
 */
export async function isPublished(step: string): Promise<boolean> {
  try {
    await using file = await open(join(step, MANIFEST_NAME), 'r');
    const { size } = await file.stat();
    const end = Buffer.alloc(END_OF_MANIFEST.length);
    await file.read(end, 0, end.length, Math.max(0, size - end.length));
    return end.toString('latin1') === END_OF_MANIFEST;
  } catch (error) {
    // Also one that can't be read is somebody's.
    return !['ENOENT', 'ENOTDIR', 'ESTALE'].includes(String((error as NodeJS.ErrnoException).code));
  }
}
