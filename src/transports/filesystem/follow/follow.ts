/** Keeps a local directory at what is published elsewhere, so that engines load from their own disk. */

import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ErrorCode, hasCode, WeightcastError } from '../../../errors.js';
import { applyDelta } from '../delta/index.js';
import type { Publication } from '../publish/index.js';
import { listPublished, type PublishedEntry } from '../published/list.js';
import { prune } from '../retention/prune.js';
import { glances } from './glance.js';
import { type ApplyDelta, makeRoom, makeVersion } from './make.js';
import { type FollowStep, type KnownVersion, planFollow } from './plan.js';

export interface FollowPublishedOptions {
  /** The local directory: it holds `step_<v>` with a manifest of its own, as if it had been published there. */
  readonly into: string;
  /** Ends the following; what is half made by then is removed. */
  readonly signal: AbortSignal;
  /** So many of the newest versions stay in the local directory; at least 2, the default. What an engine loads stays in any case. */
  readonly keep?: number | undefined;
  /** Milliseconds for which a local version stays at least. Default 60,000. */
  readonly graceMs?: number | undefined;
  /** Default true: local versions survive a power loss. */
  readonly fsync?: boolean | undefined;
  /** Milliseconds between two looks. Default 1000. */
  readonly pollMs?: number | undefined;
  /** Ends after so many versions. Default: none. */
  readonly maxVersions?: number | undefined;
  /** Told of each version that is held now, whole and proved. */
  readonly onVersion?: ((made: Publication) => void | Promise<void>) | undefined;
  /** Told once of each version that can't be taken, and why; newer ones are waited for. */
  readonly onRefused?: ((version: number, error: WeightcastError) => void) | undefined;
  /** Told once, when nothing is published there yet: it is waited for. */
  readonly onNothing?: (() => void) | undefined;
  readonly onProgress?: ((version: number, bytes: number, totalBytes: number) => void) | undefined;
}

/**
 * Follows a publication directory. Goes straight to the newest version, or along the chain of deltas that leads there; each one appears locally in full, by one
 * rename, with the digest that was published, so a follower that is killed goes on where it was.
 *
 * @example
 * ```ts
 * await followPublished('/shared/policy', {
 *   into: '/local/policy',
 *   signal: AbortSignal.timeout(3_600_000),
 *   onVersion: ({ path }) => console.log(path),
 * });
 * ```
 *
 * @returns how many versions were made, when the signal aborts or `maxVersions` is reached
 * @throws WeightcastError WC_CONFIG_INVALID, WC_FILE_WRITE and WC_PUBLISH_SPACE where the local directory takes nothing
 */
export async function followPublished(directory: string, options: FollowPublishedOptions): Promise<number> {
  return follow(directory, { ...options, apply: applyDelta });
}

export interface FollowWith extends FollowPublishedOptions {
  /** Applies deltas; null: they are not taken. */
  readonly apply: ApplyDelta | null;
  /** Milliseconds for which a version is passed over whose files are not there. Default {@link LATE_MS}. */
  readonly lateMs?: number;
}

/** The same, with what applies deltas. */
export async function follow(directory: string, options: FollowWith): Promise<number> {
  const { signal, pollMs = 1_000, maxVersions = Number.POSITIVE_INFINITY, keep = 2, apply } = options;
  if (!Number.isSafeInteger(keep) || keep < 2) {
    throw new WeightcastError('WC_CONFIG_INVALID', `keep: ${keep} is not a whole number from 2 on`);
  }
  const into = resolve(options.into);
  if (into === resolve(directory)) {
    throw new WeightcastError('WC_CONFIG_INVALID', `${into} can't follow itself`);
  }
  const look = glances(resolve(directory));
  /** What was told, and what another look won't change until then: publications by number and time. */
  const told = new Set<string>();
  const badUntilMs = new Map<string, number>();
  const isGood = (entry: PublishedEntry) => (badUntilMs.get(nameOf(entry)) ?? 0) <= performance.now();
  let isFirst = true;
  let made = 0;
  try {
    while (made < maxVersions) {
      signal.throwIfAborted();
      const seen = await look(signal);
      if (seen.length === 0 && isFirst) options.onNothing?.();
      isFirst = false;
      const published = seen.filter(isGood);
      const held = await listPublished(into, { signal });
      const plan = planFollow(published.map(known), held.map(known), { deltas: apply !== null });
      for (const { version, error } of plan.refused) refuse(version, error, published);
      const [step] = plan.steps;
      const before = made;
      if (step !== undefined) await carryOut(step, published, held);
      if (made === before) await sleep(pollMs, undefined, { signal });
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
  return made;

  async function carryOut(
    step: FollowStep,
    published: readonly PublishedEntry[],
    held: readonly PublishedEntry[],
  ): Promise<void> {
    const { version } = step;
    const { fsync, onProgress } = options;
    const other = held.find((entry) => entry.version === version);
    if (other !== undefined && !(await makeRoom(into, other))) return;
    const publication = await makeVersion(step, apply, {
      ...{ directory, into, signal, fsync },
      onProgress: (bytes, totalBytes) => onProgress?.(version, bytes, totalBytes),
    }).catch(async (error: unknown) => {
      // Another follower of this local directory was faster.
      if (hasCode(error, 'WC_PUBLISH_EXISTS') && (await isHeld(into, version, signal))) return null;
      // Retention was faster, or the bytes are bad: there will be others.
      if (!(error instanceof WeightcastError) || !PASSING.has(error.code)) throw error;
      refuse(version, error, published);
      return null;
    });
    if (publication === null) return;
    made += 1;
    await options.onVersion?.(publication);
    await prune(into, { keep, graceMs: options.graceMs, signal });
  }

  function refuse(version: number, error: WeightcastError, published: readonly PublishedEntry[]): void {
    const entry = published.find((each) => each.version === version);
    if (entry === undefined) return;
    const forMs = error.details['missing'] === true ? (options.lateMs ?? LATE_MS) : Number.POSITIVE_INFINITY;
    if (FINAL.has(error.code)) badUntilMs.set(nameOf(entry), performance.now() + forMs);
    if (told.has(nameOf(entry))) return;
    told.add(nameOf(entry));
    options.onRefused?.(version, error);
  }
}

async function isHeld(into: string, version: number, signal: AbortSignal): Promise<boolean> {
  return (await listPublished(into, { signal })).some((entry) => entry.version === version);
}

/** By then an NFS client sees what its caches hid. */
const LATE_MS = 60_000;

function nameOf({ version, publishedMs }: PublishedEntry): string {
  return `${version}@${publishedMs}`;
}

/** Bytes that are wrong now are wrong at the next look. */
const FINAL: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['WC_VERSION_CORRUPT', 'WC_DELTA_INVALID']);
const PASSING: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  ...FINAL,
  ...(['WC_VERSION_NOT_FOUND', 'WC_MANIFEST_INVALID', 'WC_CHECKPOINT_CHANGED'] as const),
  ...(['WC_DELTA_BASE', 'WC_FILE_READ'] as const),
]);

function known({ version, manifest }: PublishedEntry): KnownVersion {
  const { kind, digest, base } = manifest;
  return { version, kind, digest, base };
}
