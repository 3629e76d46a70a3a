/** Makes one version in the local directory: whole, by one rename, as publishers do it. */
import { resolve } from 'node:path';
import { hasCode, WeightcastError } from '../../../errors.js';
import { stepFolder } from '../layout.js';
import { leasedVersions } from '../lease/live.js';
import { LEASE_TTL_MS } from '../lease/place.js';
import { writing } from '../publish/durable.js';
import { type Publication, publish } from '../publish/index.js';
import type { PublishedEntry } from '../published/list.js';
import { openPublished, type PublishedVersion, type VerifyAmount } from '../published/open.js';
import { removeVersion } from '../retention/remove.js';
import { asRemover } from '../retention/trash.js';
import type { FollowStep } from './plan.js';

export interface MakeOptions {
  /** Where versions are published. */
  readonly directory: string;
  /** Where they are held. */
  readonly into: string;
  readonly fsync?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((bytes: number, totalBytes: number) => void) | undefined;
}

/** Applies a delta to a version that is held, and publishes the result locally. */
export type ApplyDelta = (
  delta: PublishedVersion,
  base: PublishedVersion,
  options: MakeOptions & { readonly version: number },
) => Promise<Publication>;

/**
 * Carries out a step. What it reads, there and here, is leased meanwhile; what it has made has the digest that was published.
 *
 * @throws WeightcastError WC_VERSION_CORRUPT, WC_VERSION_NOT_FOUND when the version was removed meanwhile, and what publishing throws
 */
export async function makeVersion(
  step: FollowStep,
  apply: ApplyDelta | null,
  options: MakeOptions,
): Promise<Publication> {
  const { directory, into, signal, onProgress, fsync } = options;
  const { version } = step;
  // Copying checks each tensor as it passes; the small files are checked here.
  const verify = step.kind === 'copy' ? 'sample' : 'sizes';
  await using source = await openSource(directory, version, verify, signal);
  const made = await (step.kind === 'copy'
    ? publish(stepFolder(resolve(directory), version), {
        directory: into,
        version,
        signal,
        onProgress,
        fsync,
      })
    : applied(step, source));
  const { digest } = source.manifest;
  if (digest === null || made.manifest.digest === digest) return made;
  throw new WeightcastError(
    'WC_VERSION_CORRUPT',
    `${made.path} is not what was published as step_${version}`,
    {
      details: { path: made.path, expected: digest, found: made.manifest.digest },
    },
  );

  async function applied({ base }: FollowStep & { kind: 'apply' }, delta: PublishedVersion) {
    if (apply === null) throw new WeightcastError('WC_DELTA_INVALID', `step_${version} is a delta`);
    await using local = await openPublished(into, { version: base, verify: 'sizes', signal });
    // Awaited here: the lease would be gone under it.
    return await apply(delta, local, { ...options, version });
  }
}

/** A version without digests has nothing but sizes. A directory that takes no lease is read without one. */
async function openSource(
  directory: string,
  version: number,
  verify: VerifyAmount,
  signal: AbortSignal | undefined,
): Promise<PublishedVersion> {
  const open = (amount: VerifyAmount, lease: boolean) =>
    openPublished(directory, { version, verify: amount, lease, signal });
  const eitherAmount = (lease: boolean) =>
    open(verify, lease).catch((error: unknown) => {
      if (!hasCode(error, 'WC_CONFIG_INVALID')) throw error;
      return open('sizes', lease);
    });
  return eitherAmount(true).catch((error: unknown) => {
    if (!hasCode(error, 'WC_FILE_WRITE')) throw error;
    return eitherAmount(false);
  });
}

/**
 * Takes away a held version that is another one than what is published under its number now: a trainer went back.
 *
 * @returns false while somebody reads it
 */
export async function makeRoom(into: string, entry: PublishedEntry): Promise<boolean> {
  const removed = asRemover(into, async (owner) => {
    const leased = () => leasedVersions(into, LEASE_TTL_MS);
    if ((await leased()).has(entry.version)) return false;
    return (await removeVersion({ directory: into, owner, leased }, entry)) !== 'leased';
  });
  return writing(into, removed);
}
