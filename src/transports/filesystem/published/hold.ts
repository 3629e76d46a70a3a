/** Holds a version while engines load it from its folder. */
import { realpath } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { hasCode, WeightcastError } from '../../../errors.js';
import type { Checkpoint } from '../../../weights/checkpoint.js';
import { runInSlices } from '../../../weights/yielding.js';
import { versionOfStep } from '../layout.js';
import { type Lease, takeLease } from '../lease/lease.js';
import { type Manifest, readManifest } from '../manifest.js';
import { requireAgreement } from './checkpoint.js';
import { requireSizes } from './files.js';
import { type KnownDigests, knownDigestSteps } from './known-digests.js';
import { manifestIsThere } from './open.js';

export interface HoldOptions {
  readonly signal?: AbortSignal | undefined;
  /** Told why retention may remove the version all the same. */
  readonly onNote?: ((text: string) => void) | undefined;
}

/** A folder with a manifest whose files are all there, in their sizes. */
export interface HeldFolder extends AsyncDisposable {
  readonly manifest: Manifest;
  /** @throws WeightcastError WC_VERSION_CORRUPT when headers say something else than the manifest */
  requireAgreement(checkpoint: Checkpoint): Promise<void>;
  /** Of the tensors, as they were published. */
  digests(): Promise<KnownDigests>;
}

/**
 * Looks at a folder that weightcast has published, and keeps retention away from it. What is missing or cut off is told before anybody is asked to load it.
 *
 * @returns null for a folder without a manifest
 * @throws WeightcastError WC_MANIFEST_INVALID, WC_VERSION_CORRUPT, WC_VERSION_NOT_FOUND when it was removed just now, WC_CHECKPOINT_INVALID for a delta,
 * WC_FILE_READ
 */
export async function holdPublished(path: string, options: HoldOptions = {}): Promise<HeldFolder | null> {
  if (!(await manifestIsThere(path))) return null;
  const { signal = null, onNote = () => undefined } = options;
  const folder = await realpath(path);
  const version = versionOfStep(basename(folder));
  const lease = version === null ? null : await leaseIfPossible(folder, version, onNote);
  const lost = (event: Event) => onNote(String(((event.target as AbortSignal).reason as Error).message));
  lease?.lost.addEventListener('abort', lost, { once: true });
  const close = async () => {
    lease?.lost.removeEventListener('abort', lost);
    await lease?.close();
  };
  try {
    const manifest = await readManifest(folder, { version, signal });
    if (manifest.kind === 'delta') throw deltaError(path);
    await requireSizes(folder, manifest, signal);
    return {
      manifest,
      requireAgreement: (checkpoint) => requireAgreement(path, checkpoint, manifest, signal),
      digests: () => runInSlices(knownDigestSteps(manifest), signal),
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function leaseIfPossible(
  folder: string,
  version: number,
  onNote: (text: string) => void,
): Promise<Lease | null> {
  try {
    return await takeLease(dirname(folder), version, { stillThere: () => manifestIsThere(folder) });
  } catch (error) {
    if (!hasCode(error, 'WC_FILE_WRITE')) throw error;
    onNote(`retention is not kept from removing ${folder} while engines load it: ${error.message}`);
    return null;
  }
}

function deltaError(path: string): WeightcastError {
  return new WeightcastError('WC_CHECKPOINT_INVALID', `${path} is a delta, which no engine can load`, {
    remedy: 'Make it whole on this machine (weightcast follow DIR --into LOCAL), and push that.',
    details: { path },
  });
}
