/** A reader's door to a publication directory. */
import { lstat, readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { hasCode, WeightcastError } from '../../../errors.js';
import type { Checkpoint } from '../../../weights/checkpoint.js';
import {
  MANIFEST_NAME,
  OWN_FOLDER,
  parseLeftover,
  stepFolder,
  stepName,
  versionOfKeptManifest,
} from '../layout.js';
import { type Lease, takeLease } from '../lease/lease.js';
import { type Manifest, readManifest } from '../manifest.js';
import { openPublishedCheckpoint } from './checkpoint.js';
import { digestedRanges, requireDigests } from './digests.js';
import { requireSizes } from './files.js';
import { versionsIn } from './list.js';
import { mayPass, untilThere } from './patience.js';

/** How much is looked at: sizes always; `all` digests too, or those of a `sample` of the tensors, drawn anew each time, and of every header and small file. */
export type VerifyAmount = 'all' | 'sample' | 'sizes';

export interface OpenPublishedOptions {
  /** Which one: its number, the newest (the default), or the newest from a number on. */
  readonly version?: number | 'latest' | { readonly atLeast: number } | undefined;
  /** Whether `latest` and `atLeast` count deltas, which no engine can load. Default false. */
  readonly deltas?: boolean | undefined;
  /** Milliseconds to wait for it, default 0. NFS clients may see a new version a minute late, by their caches. */
  readonly waitMs?: number | undefined;
  /** Default: `all`, or `sizes` of a version that was published without digests, for which nothing else can be asked. */
  readonly verify?: VerifyAmount | undefined;
  /** Default true: retention leaves the version alone until it is closed. The directory must be writable then. */
  readonly lease?: boolean | undefined;
  /** Milliseconds, for tests: the same for everybody who uses the directory. */
  readonly leaseTtlMs?: number | undefined;
  readonly onProgress?: ((bytes: number, totalBytes: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A version that is whole, and stays while it is open. */
export interface PublishedVersion extends AsyncDisposable {
  readonly version: number;
  /** Its folder, which engines can load unless it is a delta. */
  readonly path: string;
  readonly manifest: Manifest;
  /** Its tensors where they lie; null for a delta. */
  readonly checkpoint: Checkpoint | null;
  readonly verified: VerifyAmount;
  /** Aborts when retention may have removed it all the same: its lease could not be renewed. Never without a lease. */
  readonly lost: AbortSignal;
  /** Lets it go; safe to call twice. */
  close(): Promise<void>;
}

/**
 * Opens a version and holds it. Only the manifest is believed, and every file that it names is looked at before this resolves.
 *
 * @example
 * ```ts
 * await using published = await openPublished('/shared/policy', { version: { atLeast: 12 }, waitMs: 60_000 });
 * console.log(published.version, published.checkpoint?.tensors.length);
 * ```
 *
 * @throws WeightcastError WC_VERSION_NOT_FOUND when it is not there in time; WC_MANIFEST_INVALID; WC_VERSION_CORRUPT when files are not what their manifest
 * says; WC_FILE_WRITE when no lease can be written; WC_FILE_READ; the signal's reason
 */
export async function openPublished(
  directory: string,
  options: OpenPublishedOptions = {},
): Promise<PublishedVersion> {
  const full = resolve(directory);
  const wanted = options.version ?? 'latest';
  requireWanted(wanted);
  const { waitMs = 0, signal = null } = options;
  return untilThere({ waitMs, signal }, async () => {
    for (const version of typeof wanted === 'number' ? [wanted] : await candidates(full, wanted)) {
      const opened = await openVersion(full, version, { ...options, chosen: typeof wanted === 'number' });
      if (opened !== null) return opened;
    }
    throw notFound(full, wanted);
  });
}

interface OpenVersionOptions extends OpenPublishedOptions {
  /** By its number: null is no answer then. */
  readonly chosen: boolean;
}

/** @returns null for what is no version, or a delta where none was asked for */
async function openVersion(
  directory: string,
  version: number,
  options: OpenVersionOptions,
): Promise<PublishedVersion | null> {
  const { chosen, signal = null } = options;
  const path = stepFolder(directory, version);
  const isThere = () => manifestIsThere(path);
  // A directory that is not there yet gets nothing made in it.
  if (!(await isThere())) {
    if (chosen) throw gone(path, { vanished: (await isTakenAside(directory, version)) || (await isThere()) });
    return null;
  }
  // The lease first, then the manifest: prune looks for leases again once the folder has its other name.
  const held = { ttlMs: options.leaseTtlMs, stillThere: isThere };
  const lease = options.lease === false ? null : await takeLease(directory, version, held);
  try {
    const manifest = await readManifest(path, { version, signal });
    if (!chosen && manifest.kind === 'delta' && options.deltas !== true) {
      await lease?.close();
      return null;
    }
    const verified = amountOf(manifest, options.verify);
    await requireSizes(path, manifest, signal);
    if (verified !== 'sizes') {
      const { onProgress } = options;
      await requireDigests(path, digestedRanges(manifest, verified), { signal, onProgress });
    }
    const checkpoint = await openPublishedCheckpoint(path, manifest, signal);
    return opened({ version, path, manifest, checkpoint, verified }, lease);
  } catch (error) {
    await lease?.close();
    // Not whole, or not yet: no version is chosen by it.
    if (!chosen && hasCode(error, 'WC_MANIFEST_INVALID')) return null;
    throw !mayPass(error) || (await isThere()) ? error : gone(path, { vanished: true, cause: error });
  }
}

function opened(
  facts: Pick<PublishedVersion, 'version' | 'path' | 'manifest' | 'checkpoint' | 'verified'>,
  lease: Lease | null,
): PublishedVersion {
  const close = async () => lease?.close();
  const lost = lease?.lost ?? new AbortController().signal;
  return { ...facts, lost, close, [Symbol.asyncDispose]: close };
}

export async function manifestIsThere(folder: string): Promise<boolean> {
  return lstat(join(folder, MANIFEST_NAME)).then(
    () => true,
    () => false,
  );
}

function amountOf({ digestAlgorithm, version }: Manifest, asked: VerifyAmount | undefined): VerifyAmount {
  if (digestAlgorithm !== 'none') return asked ?? 'all';
  if (asked === undefined || asked === 'sizes') return 'sizes';
  throw new WeightcastError('WC_CONFIG_INVALID', `${stepName(version)} was published without digests`, {
    remedy: "Ask for verify: 'sizes', or publish with digests.",
  });
}

async function candidates(
  directory: string,
  wanted: 'latest' | { readonly atLeast: number },
): Promise<readonly number[]> {
  const least = wanted === 'latest' ? 0 : wanted.atLeast;
  return (await versionsIn(directory)).filter((version) => version >= least);
}

function requireWanted(wanted: number | 'latest' | { readonly atLeast: number }): void {
  if (wanted === 'latest') return;
  const version = typeof wanted === 'number' ? wanted : wanted.atLeast;
  if (Number.isSafeInteger(version) && version >= 0) return;
  throw new WeightcastError('WC_CONFIG_INVALID', `${version} is not a version: a whole number from 0 on`);
}

function notFound(
  directory: string,
  wanted: number | 'latest' | { readonly atLeast: number },
): WeightcastError {
  const what =
    wanted === 'latest'
      ? 'nothing is published'
      : typeof wanted === 'number'
        ? `version ${wanted} is not published`
        : `no version from ${wanted.atLeast} on is published`;
  return new WeightcastError('WC_VERSION_NOT_FOUND', `${what} in ${directory}`, {
    details: { path: directory },
  });
}

/** Prune renames a version away, or takes its manifest aside, and undoes that if somebody has a lease on it by then. */
async function isTakenAside(directory: string, version: number): Promise<boolean> {
  const names = await readdir(join(directory, OWN_FOLDER)).catch(() => []);
  return names.some((name) => {
    const leftover = parseLeftover(name);
    return (
      (leftover?.kind === 'trash' && leftover.version === version) || versionOfKeptManifest(name) === version
    );
  });
}

/** `vanished`: it was there a moment ago, and may be again. */
function gone(path: string, { vanished, cause }: { vanished: boolean; cause?: unknown }): WeightcastError {
  return new WeightcastError('WC_VERSION_NOT_FOUND', `${path} is not published, or no longer`, {
    cause,
    details: { path, vanished },
  });
}
