/** Waits until a source says the same thing twice: engines that start or leave are seen one after another. */
import { setTimeout as sleep } from 'node:timers/promises';
import { asWeightcastError, type ErrorDetails, WeightcastError } from '../errors.js';
import { fingerprint, type Membership, type MembershipSource, worldSizeOf } from './membership.js';

export interface SettleOptions {
  /** GPU workers that must be there; null: whoever is there, at least one. */
  readonly worldSize: number | null;
  /** Milliseconds. */
  readonly timeoutMs: number;
  /** Milliseconds between two looks. Default 1,000. */
  readonly intervalMs?: number | undefined;
  readonly signal: AbortSignal;
  /** What was seen before: seen again, it needs no second look. */
  readonly known?: Membership | null | undefined;
}

/**
 * The members, once two looks in a row have found the same ones and they are as many as expected.
 *
 * @throws WeightcastError WC_DISCOVERY_FAILED at the deadline, or at once where an engine serves that can't be updated; what the source says can't change
 */
export async function settled(source: MembershipSource, options: SettleOptions): Promise<Membership> {
  const { worldSize, timeoutMs, intervalMs = 1_000, signal } = options;
  const deadline = AbortSignal.timeout(timeoutMs);
  const either = AbortSignal.any([signal, deadline]);
  let before = options.known == null ? null : fingerprint(options.known);
  let last: Membership | null = null;
  let failure: unknown = null;
  for (;;) {
    const seen = await source.poll(either).catch((error: unknown) => {
      signal.throwIfAborted();
      if (error instanceof WeightcastError && error.details.lasting === true) throw error;
      // What its own deadline broke off says nothing.
      if (!deadline.aborted) failure = error;
      return null;
    });
    const now = seen === null ? null : fingerprint(seen);
    if (seen !== null) {
      if (now === before && isExpected(seen, worldSize)) return servingOnly(seen, source);
      last = seen;
      failure = null;
    }
    before = now;
    await sleep(intervalMs, undefined, { signal: either }).catch(() => undefined);
    signal.throwIfAborted();
    if (deadline.aborted) throw unsettled(source, { last, failure, worldSize, timeoutMs });
  }
}

function isExpected({ members }: Membership, worldSize: number | null): boolean {
  return worldSize === null ? members.length > 0 : worldSizeOf(members) === worldSize;
}

/** Two versions must not be in service: an engine that can't be updated and may serve keeps the others from being. */
function servingOnly(membership: Membership, source: MembershipSource): Membership {
  const [first] = membership.unusable.filter(({ mayServe }) => mayServe);
  if (first === undefined) return membership;
  throw failed(source, `${first.what} serves and can't be updated: ${first.why}`);
}

interface Seen {
  readonly last: Membership | null;
  readonly failure: unknown;
  readonly worldSize: number | null;
  readonly timeoutMs: number;
}

function unsettled(source: MembershipSource, { last, failure, worldSize, timeoutMs }: Seen): WeightcastError {
  const within = `within ${timeoutMs / 1000} s`;
  if (failure !== null) {
    const cause = asWeightcastError(failure, 'WC_DISCOVERY_FAILED');
    // Every code has a remedy of its own; the source's says where else to look.
    const remedy = cause.code === 'WC_ENGINE_UNAUTHORIZED' ? cause.remedy : (source.remedy ?? cause.remedy);
    return failed(source, `no answer to use ${within}: ${cause.message}`, { cause, remedy });
  }
  if (last === null) return failed(source, `no answer ${within}`);
  const wanted = worldSize === null ? 'engines that stay the same' : `${worldSize} GPU workers`;
  return failed(source, `not ${wanted} ${within}; last seen: ${describe(last)}`);
}

/** '2 engines with 4 workers (http://…), unusable: ns/c/17 (…)' */
export function describe({ members, unusable }: Membership): string {
  const list = (items: readonly string[]) =>
    items.length > 4 ? `${items.slice(0, 4).join(', ')} and ${items.length - 4} more` : items.join(', ');
  const engines = `${members.length} engine${members.length === 1 ? '' : 's'}`;
  const names = members.length === 0 ? '' : ` (${list(members.map(({ target }) => target.url))})`;
  const bad = unusable.map(({ what, why }) => `${what} (${why})`);
  const size = `${engines} with ${worldSizeOf(members)} GPU workers${names}`;
  return bad.length === 0 ? size : `${size}, unusable: ${list(bad)}`;
}

function failed(source: MembershipSource, why: string, details: ErrorDetails = {}): WeightcastError {
  const remedy = details.remedy ?? source.remedy;
  return new WeightcastError('WC_DISCOVERY_FAILED', `${source.name}: ${why}`, {
    phase: 'discovery',
    ...details,
    ...(remedy === undefined ? {} : { remedy }),
  });
}
