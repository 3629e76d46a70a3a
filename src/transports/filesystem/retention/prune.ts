/** Retention: removes old versions, and never one that somebody reads. */
import { lstat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { asWeightcastError, WeightcastError } from '../../../errors.js';
import { thisProcess } from '../../../holder.js';
import { askedOfFileSystem, byOwnClock, type TimeIn } from '../clock.js';
import { OWN_FOLDER } from '../layout.js';
import { leasedVersions, sweepLeases } from '../lease/live.js';
import { LEASE_TTL_MS, leaseFolder } from '../lease/place.js';
import { makeFolder, writeError } from '../publish/durable.js';
import { GRACE_MS } from '../publish/owner.js';
import { sweepLeftovers } from '../publish/sweep.js';
import { filesOfManifest } from '../published/files.js';
import { type PublishedEntry, surveyPublished } from '../published/list.js';
import { decideRetention, type KeepReason, type RetentionPolicy } from './decide.js';
import { foreignFiles, type Removal, type Remover, removeVersion } from './remove.js';
import { asRemover, sweepTrash, withoutFile } from './trash.js';

export interface PruneOptions {
  /** So many of the newest versions stay, by their numbers and by their age. At least 2, which is the default: engines may load the one before the newest. */
  readonly keep?: number | undefined;
  /** Versions that are a multiple of this stay. Default: none for that reason. */
  readonly keepEvery?: number | undefined;
  /** Milliseconds: younger versions stay. Default 60,000. */
  readonly graceMs?: number | undefined;
  /** Only says what would go, and writes nothing: it goes by this machine's clock then, prune itself by that of the file system. */
  readonly dryRun?: boolean | undefined;
  /** Stops between two versions. */
  readonly signal?: AbortSignal | undefined;
  /** Told of each version that was removed. */
  readonly onRemoved?: ((version: number) => void) | undefined;
  /** Milliseconds, for tests: the same for everybody who uses the directory. */
  readonly leaseTtlMs?: number | undefined;
}

export interface PruneReport {
  readonly directory: string;
  readonly dryRun: boolean;
  readonly removed: readonly { readonly version: number; readonly bytes: number }[];
  readonly kept: readonly { readonly version: number; readonly reason: KeepReason }[];
  /** What weightcast did not publish, or not alone: left as it is. */
  readonly untouched: readonly { readonly path: string; readonly reason: string }[];
  /** What could not be removed, and is tried again by the next prune. */
  readonly failed: readonly { readonly path: string; readonly reason: string }[];
  /** What dead publishers and prunes had left, and is gone now. */
  readonly swept: readonly string[];
}

const DEFAULTS: RetentionPolicy = { keep: 2, keepEvery: null, graceMs: 60_000 };

/**
 * Removes the versions that nothing keeps: neither their number nor their age, no lease, and no delta that stays and needs them. A version goes by a rename
 * first, and comes back if a reader turns up in that moment. Several at once do no harm.
 *
 * @example
 * ```ts
 * const { removed } = await prune('/shared/policy', { keep: 4, keepEvery: 100 });
 * ```
 *
 * @throws WeightcastError WC_CONFIG_INVALID, WC_FILE_READ, WC_FILE_WRITE; the signal's reason
 */
export async function prune(directory: string, options: PruneOptions = {}): Promise<PruneReport> {
  const policy = policyOf(options);
  const full = resolve(directory);
  const { dryRun = false, signal } = options;
  const survey = await surveyPublished(full, signal ?? null);
  const untouched = survey.others.map(({ path, error }) => ({ path, reason: error.message }));
  // What nobody has published to gets nothing made in it.
  if (survey.published.length === 0 && !(await isFolder(join(full, OWN_FOLDER)))) {
    return { directory: full, dryRun, removed: [], kept: [], untouched, failed: [], swept: [] };
  }
  try {
    if (!dryRun) await makeFolder(leaseFolder(full), false);
    const as = dryRun ? withoutFile : asRemover;
    const timeIn = dryRun ? byOwnClock : askedOfFileSystem;
    return await as(full, (owner) => {
      const ttlMs = options.leaseTtlMs ?? LEASE_TTL_MS;
      const leased = () => leasedVersions(full, ttlMs, timeIn);
      const work = { ...options, policy, dryRun, ttlMs, timeIn, published: survey.published, untouched };
      return carryOut({ directory: full, owner, leased }, work);
    });
  } catch (error) {
    signal?.throwIfAborted();
    throw asWeightcastError(writeError(full, error), 'WC_FILE_WRITE');
  }
}

interface Work extends PruneOptions {
  readonly policy: RetentionPolicy;
  readonly dryRun: boolean;
  readonly ttlMs: number;
  readonly timeIn: TimeIn;
  readonly published: readonly PublishedEntry[];
  readonly untouched: readonly { readonly path: string; readonly reason: string }[];
}

async function carryOut(remover: Remover, work: Work): Promise<PruneReport> {
  const { directory, leased } = remover;
  const { dryRun, policy, signal, ttlMs, timeIn } = work;
  const nowMs = await timeIn(leaseFolder(directory));
  const clock = { me: await thisProcess(), nowMs, graceMs: GRACE_MS };
  const swept = [
    ...(await sweepTrash(directory, { leased, clock, dryRun })),
    ...(await sweepLeftovers(directory, { dryRun })),
  ];
  const untouched = [...work.untouched];
  const failed: { path: string; reason: string }[] = [];
  const ours: PublishedEntry[] = [];
  for (const entry of work.published) {
    const foreign = await foreignFiles(entry).catch(() => []);
    if (foreign.length === 0) ours.push(entry);
    else untouched.push({ path: entry.path, reason: `holds what weightcast did not write: ${foreign[0]}` });
  }
  const versions = work.published.map(({ version, manifest, publishedMs }) => ({
    version,
    base: manifest.base?.version ?? null,
    ageMs: nowMs - publishedMs,
  }));
  const decision = decideRetention(versions, await leased(), policy);
  const kept = [...decision.kept];
  const removed: { version: number; bytes: number }[] = [];
  const needed = new Set<number>();
  const bases = new Map(versions.map(({ version, base }) => [version, base]));
  for (const version of decision.removed) {
    signal?.throwIfAborted();
    const outcome = await outcomeOf(version);
    if (outcome === 'removed') continue;
    if (outcome !== 'untouched' && outcome !== 'gone') kept.push({ version, reason: outcome });
    // It stays against the decision, and so does what it is a delta of: that comes later in this list.
    const base = bases.get(version) ?? null;
    if (base !== null && outcome !== 'gone') needed.add(base);
  }
  if (!dryRun) await sweepLeases(directory, ttlMs);
  kept.sort((a, b) => b.version - a.version);
  return { directory, dryRun, removed, kept, untouched, failed, swept };

  async function outcomeOf(version: number): Promise<Removal | 'base' | 'untouched'> {
    const entry = ours.find((each) => each.version === version);
    if (entry === undefined) return 'untouched';
    if (needed.has(version)) return 'base';
    try {
      const removal = dryRun ? 'removed' : await removeVersion(remover, entry);
      if (removal !== 'removed') return removal;
    } catch (thrown) {
      const error = writeError(entry.path, thrown);
      failed.push({ path: entry.path, reason: error instanceof Error ? error.message : String(error) });
      return 'untouched';
    }
    const bytes = filesOfManifest(entry.manifest).reduce((sum, { byteLength }) => sum + byteLength, 0);
    removed.push({ version, bytes });
    if (!dryRun) work.onRemoved?.(version);
    return 'removed';
  }
}

/** @throws WeightcastError WC_CONFIG_INVALID */
function policyOf({ keep, keepEvery, graceMs }: PruneOptions): RetentionPolicy {
  const policy = {
    keep: keep ?? DEFAULTS.keep,
    keepEvery: keepEvery ?? DEFAULTS.keepEvery,
    graceMs: graceMs ?? DEFAULTS.graceMs,
  };
  if (!Number.isSafeInteger(policy.keep) || policy.keep < 2) throw outOfRange('keep', keep, 'from 2 on');
  if (policy.keepEvery !== null && !(Number.isSafeInteger(policy.keepEvery) && policy.keepEvery >= 1)) {
    throw outOfRange('keepEvery', keepEvery, 'from 1 on');
  }
  if (!(policy.graceMs >= 0)) throw outOfRange('graceMs', graceMs, 'from 0 on');
  return policy;
}

function outOfRange(name: string, value: unknown, range: string): WeightcastError {
  return new WeightcastError('WC_CONFIG_INVALID', `${name}: ${String(value)} is not a number ${range}`);
}

async function isFolder(path: string): Promise<boolean> {
  return lstat(path).then(
    (status) => status.isDirectory(),
    () => false,
  );
}
