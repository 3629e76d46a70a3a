/** What is published in a directory. */
import { lstat, readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { asWeightcastError, hasCode, WeightcastError } from '../../../errors.js';
import { MANIFEST_NAME, stepFolder, versionOfStep } from '../layout.js';
import { type Manifest, readManifest } from '../manifest.js';
import { modifiedMs } from '../prime-rl/layout.js';
import { isGone } from './files.js';

export interface PublishedEntry {
  readonly version: number;
  /** The version's folder. */
  readonly path: string;
  readonly manifest: Manifest;
  /** When its manifest was written, milliseconds, by the file system's clock. */
  readonly publishedMs: number;
}

/** A `step_<v>` that has no manifest that can be believed. */
export interface UnpublishedEntry {
  readonly version: number;
  readonly path: string;
  readonly error: WeightcastError;
}

/**
 * The versions in a publication directory, newest first; none where it is not there yet. Only manifests are read: a folder without one, or with one that is
 * not whole, is no version.
 *
 * @example
 * ```ts
 * for (const { version, manifest } of await listPublished('/shared/policy')) console.log(version, manifest.kind, manifest.digest);
 * ```
 *
 * @throws WeightcastError WC_FILE_READ
 */
export async function listPublished(
  directory: string,
  options: { readonly signal?: AbortSignal | undefined } = {},
): Promise<readonly PublishedEntry[]> {
  return (await surveyPublished(directory, options.signal ?? null)).published;
}

/** The same, with the folders that are no versions. */
export async function surveyPublished(
  directory: string,
  signal: AbortSignal | null,
): Promise<{ readonly published: readonly PublishedEntry[]; readonly others: readonly UnpublishedEntry[] }> {
  const full = resolve(directory);
  const published: PublishedEntry[] = [];
  const others: UnpublishedEntry[] = [];
  // One after the other: each manifest may have megabytes.
  for (const version of await versionsIn(full)) {
    signal?.throwIfAborted();
    const path = stepFolder(full, version);
    const entry = await look(path, version, signal);
    if (entry instanceof WeightcastError) others.push({ version, path, error: entry });
    else if (entry !== null) published.push(entry);
  }
  return { published, others };
}

/** One version; null for a folder that is none. @throws WeightcastError WC_FILE_READ */
export async function publishedEntry(
  path: string,
  version: number,
  signal: AbortSignal | null,
): Promise<PublishedEntry | null> {
  const entry = await look(path, version, signal);
  return entry instanceof WeightcastError ? null : entry;
}

async function look(
  path: string,
  version: number,
  signal: AbortSignal | null,
): Promise<PublishedEntry | WeightcastError | null> {
  try {
    if (!(await lstat(path)).isDirectory()) return noFolder(path);
    const manifest = await readManifest(path, { version, signal });
    const publishedMs = await modifiedMs(join(path, MANIFEST_NAME));
    return publishedMs === null ? null : { version, path, manifest, publishedMs };
  } catch (error) {
    signal?.throwIfAborted();
    if (hasCode(error, 'WC_VERSION_NOT_FOUND') || hasCode(error, 'WC_MANIFEST_INVALID')) return error;
    // Removed between two looks.
    if (isGone(error)) return null;
    throw asWeightcastError(error, 'WC_FILE_READ');
  }
}

/** Another name for what may be anywhere: nothing of ours is a symbolic link. */
function noFolder(path: string): WeightcastError {
  return new WeightcastError('WC_MANIFEST_INVALID', `${path}: not a folder`, { details: { path } });
}

/** The versions whose folders are there, newest first. @throws WeightcastError WC_FILE_READ */
export async function versionsIn(directory: string): Promise<readonly number[]> {
  let names: readonly string[];
  try {
    names = await readdir(directory);
  } catch (cause) {
    if (isGone(cause)) return [];
    throw new WeightcastError('WC_FILE_READ', `${directory}: ${(cause as Error).message}`, {
      cause,
      details: { path: directory, code: (cause as NodeJS.ErrnoException).code ?? null },
    });
  }
  return names
    .map(versionOfStep)
    .filter((version) => version !== null)
    .sort((a, b) => b - a);
}
