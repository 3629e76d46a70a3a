/** Whether a version is there already. */
import { lstat } from 'node:fs/promises';
import { WeightcastError } from '../../../errors.js';
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
