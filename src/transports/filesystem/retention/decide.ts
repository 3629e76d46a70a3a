/** Which versions go: pure. */

/** What retention knows of a version. */
export interface RetainedVersion {
  readonly version: number;
  /** The version that this one is a delta of; null for one that stands alone. */
  readonly base: number | null;
  /** Milliseconds since it was published, by the file system's clock. */
  readonly ageMs: number;
}

export interface RetentionPolicy {
  /** So many of the newest stay. */
  readonly keep: number;
  /** Every version that is a multiple of it stays; null: none for that reason. */
  readonly keepEvery: number | null;
  /** Milliseconds: what is younger stays. */
  readonly graceMs: number;
}

/** newest · every: a multiple of `keepEvery` · young · leased: somebody reads it · base: a version that stays is a delta of it */
export type KeepReason = 'newest' | 'every' | 'young' | 'leased' | 'base';

export interface Retention {
  /** Newest first. */
  readonly kept: readonly { readonly version: number; readonly reason: KeepReason }[];
  /** In the order to remove them in: a delta before what it is a delta of, so that whoever stops half-way leaves whole chains. */
  readonly removed: readonly number[];
}

/**
 * Newest is told by number and by age: a trainer that went back to an earlier checkpoint counts from there, and its versions are the newest though their
 * numbers are not.
 */
export function decideRetention(
  versions: readonly RetainedVersion[],
  leased: ReadonlySet<number>,
  policy: RetentionPolicy,
): Retention {
  const byNumber = [...versions].sort((a, b) => b.version - a.version);
  const byAge = [...versions].sort((a, b) => a.ageMs - b.ageMs || b.version - a.version);
  const newest = new Set([...byNumber.slice(0, policy.keep), ...byAge.slice(0, policy.keep)]);
  const reasons = new Map<number, KeepReason>();
  for (const candidate of byNumber) {
    const { version, ageMs } = candidate;
    if (newest.has(candidate)) reasons.set(version, 'newest');
    else if (policy.keepEvery !== null && version % policy.keepEvery === 0) reasons.set(version, 'every');
    else if (leased.has(version)) reasons.set(version, 'leased');
    else if (ageMs < policy.graceMs) reasons.set(version, 'young');
  }
  const bases = new Map(versions.map(({ version, base }) => [version, base]));
  for (const version of [...reasons.keys()]) keepBases(version, bases, reasons);
  return {
    kept: byNumber.flatMap(({ version }) => {
      const reason = reasons.get(version);
      return reason === undefined ? [] : [{ version, reason }];
    }),
    removed: dependentsFirst(
      byNumber.map(({ version }) => version).filter((version) => !reasons.has(version)),
      bases,
    ),
  };
}

function keepBases(
  version: number,
  bases: ReadonlyMap<number, number | null>,
  reasons: Map<number, KeepReason>,
): void {
  let base = bases.get(version) ?? null;
  while (base !== null && bases.has(base) && !reasons.has(base)) {
    reasons.set(base, 'base');
    base = bases.get(base) ?? null;
  }
}

function dependentsFirst(removed: readonly number[], bases: ReadonlyMap<number, number | null>): number[] {
  const depth = (version: number): number => {
    const seen = new Set([version]);
    let base = bases.get(version) ?? null;
    // What a manifest claims may go round in a circle.
    while (base !== null && bases.has(base) && !seen.has(base)) {
      seen.add(base);
      base = bases.get(base) ?? null;
    }
    return seen.size;
  };
  const depths = new Map(removed.map((version) => [version, depth(version)]));
  return [...removed].sort((a, b) => (depths.get(b) ?? 0) - (depths.get(a) ?? 0) || a - b);
}
