/**
 * What each engine of an elastic fleet is known to be, as a pure function of what was seen: no clock, no socket.
 *
 *     discovering ──answers──▶ syncing ──holds the fleet's version──▶ ready
 *          ▲                      ▲  │ syncs fail                       │ does not answer, several times
 *          └── restarted ─────────┘  ▼                                  ▼
 *                             quarantined ◀──────────────────────── unhealthy ──answers──▶ syncing
 */

export type MemberState = 'discovering' | 'syncing' | 'ready' | 'unhealthy' | 'quarantined';

export interface PoolPolicy {
  /** Probes in a row without an answer before a ready engine counts as unhealthy. */
  readonly failures: number;
  /** Syncs in a row that fail before an engine is quarantined: until it restarts, or the next version. */
  readonly syncAttempts: number;
}

export const DEFAULT_POLICY: PoolPolicy = { failures: 3, syncAttempts: 3 };

export interface Adapter {
  readonly name: string;
  /** null where the server does not say. */
  readonly path: string | null;
}

/** What the fleet is on. */
export interface Desired {
  /** null: what the engines were started with. */
  readonly weights: { readonly directory: string; readonly version: string | null } | null;
  readonly adapters: readonly Adapter[];
}

/** What an engine says when it is asked. */
export interface Seen {
  /** Unix seconds; null where it does not say. */
  readonly processStart: number | null;
  readonly weightVersion: string | null;
  readonly paused: boolean;
  /** Those that it serves; null where nobody asked. */
  readonly adapters: readonly Adapter[] | null;
}

export interface Tracked {
  readonly id: string;
  /** As its source says; null where that can't tell. */
  readonly identity: string | null;
  readonly state: MemberState;
  readonly reason: string | null;
  /** Probes in a row without an answer. */
  readonly failures: number;
  readonly syncFailures: number;
  /** Key of the weights that it was brought to, in this life of its process. */
  readonly holds: string | null;
  readonly last: Seen | null;
}

export type PoolEvent =
  | {
      readonly kind: 'members';
      readonly members: readonly { readonly id: string; readonly identity: string | null }[];
    }
  | { readonly kind: 'answered'; readonly id: string; readonly seen: Seen }
  | { readonly kind: 'silent'; readonly id: string; readonly why: string }
  | { readonly kind: 'synced'; readonly id: string; readonly to: string }
  | { readonly kind: 'sync-failed'; readonly id: string; readonly why: string; readonly counts: boolean }
  /** The session that drives the fleet has ended an update: what it left of this engine. */
  | {
      readonly kind: 'left';
      readonly id: string;
      readonly holds: string | null;
      readonly quarantined: string | null;
    };

export interface PoolState {
  readonly desired: Desired | null;
  readonly engines: ReadonlyMap<string, Tracked>;
}

export const EMPTY_POOL: PoolState = { desired: null, engines: new Map() };

/** Of weights; two directories with one version are two. */
export function keyOf({ weights }: Desired): string {
  return JSON.stringify(weights);
}

/** The fleet is on another version: 'ready' is a thing of one version. */
export function wish(state: PoolState, desired: Desired | null): PoolState {
  const engines = [...state.engines.values()].map((engine): Tracked => {
    if (engine.state !== 'ready' && engine.state !== 'quarantined') return engine;
    // Another version is another try for those that could not be brought to the last one.
    return settle(desired, { ...engine, syncFailures: 0 });
  });
  return { desired, engines: new Map(engines.map((engine) => [engine.id, engine])) };
}

/** A session has put these adapters on this engine. */
export function withAdapters(state: PoolState, id: string, adapters: readonly Adapter[]): PoolState {
  const engine = state.engines.get(id);
  if (engine?.last == null) return state;
  const last = { ...engine.last, adapters };
  return { ...state, engines: new Map(state.engines).set(id, { ...engine, last }) };
}

export function advance(state: PoolState, event: PoolEvent, policy: PoolPolicy): PoolState {
  if (event.kind === 'members') return withMembers(state, event.members);
  const engine = state.engines.get(event.id);
  // It left while it was asked.
  if (engine === undefined) return state;
  const next = react(state, engine, event, policy);
  return { ...state, engines: new Map(state.engines).set(engine.id, next) };
}

function withMembers(
  state: PoolState,
  members: Extract<PoolEvent, { kind: 'members' }>['members'],
): PoolState {
  const engines = members.map(({ id, identity }): Tracked => {
    const known = state.engines.get(id);
    if (known === undefined) return newcomer(id, identity, null);
    return known.identity === identity ? known : newcomer(id, identity, 'another process took its place');
  });
  return { ...state, engines: new Map(engines.map((engine) => [engine.id, engine])) };
}

function newcomer(id: string, identity: string | null, reason: string | null): Tracked {
  return {
    ...{ id, identity, reason, state: 'discovering', failures: 0, syncFailures: 0 },
    ...{ holds: null, last: null },
  };
}

function react(
  state: PoolState,
  engine: Tracked,
  event: Exclude<PoolEvent, { kind: 'members' }>,
  policy: PoolPolicy,
): Tracked {
  switch (event.kind) {
    case 'answered':
      return answered(state, engine, event.seen);
    case 'silent':
      return silent(engine, event.why, policy);
    case 'synced':
      return settle(state.desired, {
        ...engine,
        holds: event.to,
        syncFailures: 0,
        last: untagged(engine.last),
      });
    case 'sync-failed': {
      const syncFailures = engine.syncFailures + Number(event.counts);
      const over = syncFailures >= policy.syncAttempts;
      return { ...engine, syncFailures, state: over ? 'quarantined' : 'syncing', reason: event.why };
    }
    case 'left': {
      if (event.quarantined !== null) {
        return { ...engine, holds: null, state: 'quarantined', reason: event.quarantined };
      }
      return settle(state.desired, {
        ...engine,
        holds: event.holds,
        syncFailures: 0,
        last: untagged(engine.last),
      });
    }
  }
}

/** Its tag is another one now, by our own doing: the next answer tells which. */
function untagged(last: Seen | null): Seen | null {
  return last === null ? null : { ...last, weightVersion: null };
}

function silent(engine: Tracked, why: string, policy: PoolPolicy): Tracked {
  const failures = engine.failures + 1;
  const out = engine.state === 'quarantined' || engine.state === 'discovering' || failures < policy.failures;
  return { ...engine, failures, reason: why, state: out ? engine.state : 'unhealthy' };
}

function answered(state: PoolState, engine: Tracked, seen: Seen): Tracked {
  const before = engine.last;
  const now: Tracked = { ...engine, failures: 0, last: seen };
  if (before !== null && isRestarted(before, seen)) {
    return settle(state.desired, {
      ...now,
      holds: null,
      syncFailures: 0,
      state: 'syncing',
      reason: 'it was restarted',
    });
  }
  if (engine.state === 'quarantined') {
    // Whoever put it right gave it the fleet's version, or left it to us.
    return !seen.paused && saysVersion(state.desired, seen) ? settle(state.desired, now) : now;
  }
  if (seen.paused) return { ...now, state: 'unhealthy', reason: 'found paused' };
  if (before !== null && isRetagged(before, seen) && !saysVersion(state.desired, seen)) {
    if (seen.processStart === null) return settle(state.desired, { ...now, holds: null });
    // The same process: bringing it back would be a fight with whoever changed it.
    const reason = `somebody else changed its weight version from ${before.weightVersion} to ${seen.weightVersion}`;
    return { ...now, holds: null, state: 'quarantined', reason };
  }
  return settle(state.desired, now);
}

function isRestarted(before: Seen, now: Seen): boolean {
  return (
    before.processStart !== null && now.processStart !== null && before.processStart !== now.processStart
  );
}

function isRetagged(before: Seen, now: Seen): boolean {
  return before.weightVersion !== null && before.weightVersion !== now.weightVersion;
}

/** Ready when it is known to hold what the fleet is on, else it has to be brought there. */
function settle(desired: Desired | null, engine: Tracked): Tracked {
  if (engine.last === null && engine.holds === null) return engine;
  if (isAt(desired, engine)) return { ...engine, state: 'ready', reason: null };
  const reason = engine.state === 'syncing' ? engine.reason : 'it is not on the version of the fleet';
  return { ...engine, state: 'syncing', reason };
}

function isAt(desired: Desired | null, { holds, last }: Tracked): boolean {
  if (desired === null) return true;
  const weights = desired.weights === null || holds === keyOf(desired) || saysVersion(desired, last);
  // By what it lists: a server that comes back between two looks has none.
  return weights && desired.adapters.every((adapter) => last?.adapters?.some((has) => isSame(has, adapter)));
}

function saysVersion(desired: Desired | null, seen: Seen | null): boolean {
  const version = desired?.weights?.version ?? null;
  return version !== null && seen?.weightVersion === version;
}

function isSame(a: Adapter, b: Adapter): boolean {
  return a.name === b.name && (a.path === null || b.path === null || a.path === b.path);
}
