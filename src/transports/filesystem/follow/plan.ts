/** How a local copy gets from what it holds to the newest published version: pure. */
import { WeightcastError } from '../../../errors.js';

/** What planning knows of a version, published or held. */
export interface KnownVersion {
  readonly version: number;
  readonly kind: 'full' | 'delta' | 'adapter';
  /** Of the weights; null when it was published without digests. */
  readonly digest: string | null;
  readonly base: { readonly version: number; readonly digest: string } | null;
}

/** copy: the version whole · apply: its delta onto what is held of `base` by then */
export type FollowStep =
  | { readonly kind: 'copy'; readonly version: number }
  | { readonly kind: 'apply'; readonly version: number; readonly base: number };

export interface FollowPlan {
  /** In their order; none when the newest is held. */
  readonly steps: readonly FollowStep[];
  /** Versions, newer than the one that is planned for, that can't be made from what is there. */
  readonly refused: readonly { readonly version: number; readonly error: WeightcastError }[];
}

/**
 * Straight to the newest version that can be made; its chain of deltas back to a version that is held, or to a full one. What it is a delta of is told by the
 * digest: another version under the same number is another base.
 *
 * @param deltas whether deltas can be applied; if not, they are no versions
 */
export function planFollow(
  published: readonly KnownVersion[],
  held: readonly KnownVersion[],
  { deltas }: { readonly deltas: boolean },
): FollowPlan {
  const there = new Map(published.map((each) => [each.version, each]));
  const local = new Map(held.map((each) => [each.version, each]));
  const candidates = published
    .filter(({ kind }) => deltas || kind !== 'delta')
    .sort((a, b) => b.version - a.version);
  const refused: { version: number; error: WeightcastError }[] = [];
  for (const { version } of candidates) {
    const chain = chainTo(version, there, local);
    if (!(chain instanceof WeightcastError)) return { steps: chain, refused };
    refused.push({ version, error: chain });
  }
  return { steps: [], refused };
}

function chainTo(
  target: number,
  published: ReadonlyMap<number, KnownVersion>,
  held: ReadonlyMap<number, KnownVersion>,
): readonly FollowStep[] | WeightcastError {
  const steps: FollowStep[] = [];
  let wanted: { version: number; digest: string | null } = {
    version: target,
    digest: published.get(target)?.digest ?? null,
  };
  // A chain is no longer than there are versions: what manifests claim may go round in a circle.
  while (steps.length <= published.size) {
    const { version, digest } = wanted;
    const own = held.get(version);
    if (own !== undefined && (digest === null || own.digest === digest)) return steps.reverse();
    const found = published.get(version);
    if (found === undefined || (digest !== null && found.digest !== digest)) break;
    if (found.base === null) return [...steps, { kind: 'copy', version } as const].reverse();
    steps.push({ kind: 'apply', version, base: found.base.version });
    wanted = found.base;
  }
  const lacking = `step_${wanted.version}${wanted.digest === null ? '' : ` (${wanted.digest.slice(0, 12)}…)`}`;
  return new WeightcastError(
    'WC_DELTA_BASE',
    `step_${target} can't be made: it needs ${lacking}, which is neither held nor published`,
    { details: { version: target, base: wanted.version }, remedy: 'The next full version is taken again.' },
  );
}
