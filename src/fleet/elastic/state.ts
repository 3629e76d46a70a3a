/**
 * What each engine of an elastic fleet is known to be, as a pure function of what was seen: no clock, no socket.
 *
 *     discovering ──answers──▶ syncing ──holds the fleet's version──▶ ready
 *          ▲                      ▲  │ syncs fail                       │ does not answer, several times
 *          └── restarted ─────────┘  ▼                                  ▼
 *                             quarantined ◀──────────────────────── unhealthy ──answers──▶ syncing
 */

import type { SleepState } from '../../engines/admin.js';
import { describeSleep } from '../asleep.js';

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

export interface DesiredWeights {
  readonly directory: string;
  readonly version: string | null;
  /** Which files these were when the fleet was put on them; null where that is not known. */
  readonly identity: string | null;
}

/** What the fleet is on. */
export interface Desired {
  /** null: what the engines were started with. */
  readonly weights: DesiredWeights | null;
  readonly adapters: readonly Adapter[];
}

/** What an engine says when it is asked. */
export interface Seen {
  /** Unix seconds; null where it does not say. */
  readonly processStart: number | null;
  readonly weightVersion: string | null;
  /** null where nobody can say. */
  readonly paused: boolean | null;
  /** Left out, or null: nobody can say. */
  readonly sleep?: SleepState | null;
  /** Those that it serves; null where nobody asked, or it can't say. */
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
  /** Adapters that it was given, in this life of its process. */
  readonly loaded: readonly Adapter[];
  /** It let go of its weights while it slept, and its tag still names them. */
  readonly emptied: boolean;
  readonly last: Seen | null;
}

/** What an update did to the weights of an engine: it has the fleet's, it was left with what it had, or that can't be said. */
export type LeftWeights = 'desired' | 'kept' | 'unknown';

export type PoolEvent =
  | {
      readonly kind: 'members';
      readonly members: readonly { readonly id: string; readonly identity: string | null }[];
    }
  | { readonly kind: 'answered'; readonly id: string; readonly seen: Seen }
  | { readonly kind: 'silent'; readonly id: string; readonly why: string }
  | { readonly kind: 'synced'; readonly id: string; readonly to: Desired }
  | { readonly kind: 'sync-failed'; readonly id: string; readonly why: string; readonly counts: boolean }
  /** The session that drives the fleet has ended an update: what it left of this engine. */
  | {
      readonly kind: 'left';
      readonly id: string;
      readonly weights: LeftWeights;
      readonly quarantined: string | null;
    }
  /** The session has put the fleet's adapters on this engine. */
  | { readonly kind: 'adapters'; readonly id: string };

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
  const isAnother = weightsKey(state.desired) !== weightsKey(desired);
  const engines = [...state.engines.values()].map((engine): Tracked => {
    // Another version is another try for those that could not be brought to the last one; an adapter puts no weights right.
    const tried = engine.state === 'quarantined' && isAnother;
    if (engine.state !== 'ready' && !tried) return engine;
    // What it says of itself is an older version: it will be loaded, emptied or not.
    return settle(desired, { ...engine, syncFailures: 0, emptied: engine.emptied && !isAnother });
  });
  return { desired, engines: new Map(engines.map((engine) => [engine.id, engine])) };
}

function weightsKey(desired: Desired | null): string {
  return JSON.stringify(desired?.weights ?? null);
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
    ...{ holds: null, loaded: [], emptied: false, last: null },
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
      return answered(state, engine, event.seen, policy);
    case 'silent':
      return silent(engine, event.why, policy);
    case 'synced':
      return settle(state.desired, {
        ...engine,
        holds: keyOf(event.to),
        loaded: event.to.adapters,
        emptied: false,
        syncFailures: 0,
        last: unlisted(untagged(engine.last)),
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
      // Nothing was done to it: what was true of it is.
      if (event.weights === 'kept') return resettle(state.desired, engine);
      const isAt = event.weights === 'desired' && state.desired !== null;
      const holds = isAt ? keyOf(state.desired) : null;
      const emptied = engine.emptied && !isAt;
      return settle(state.desired, {
        ...engine,
        holds,
        emptied,
        syncFailures: 0,
        last: untagged(engine.last),
      });
    }
    case 'adapters': {
      const loaded = state.desired?.adapters ?? [];
      return resettle(state.desired, { ...engine, loaded, last: unlisted(engine.last) });
    }
  }
}

/** Its tag is another one now, by our own doing: the next answer tells which. */
function untagged(last: Seen | null): Seen | null {
  return last === null ? null : { ...last, weightVersion: null };
}

/** So are its adapters. */
function unlisted(last: Seen | null): Seen | null {
  return last === null ? null : { ...last, adapters: null };
}

/** {@link settle} for those that are well as far as is known. */
function resettle(desired: Desired | null, engine: Tracked): Tracked {
  const isOut = engine.state === 'quarantined' || engine.state === 'unhealthy';
  return isOut ? engine : settle(desired, engine);
}

function silent(engine: Tracked, why: string, policy: PoolPolicy): Tracked {
  const failures = engine.failures + 1;
  const out = engine.state === 'quarantined' || engine.state === 'discovering' || failures < policy.failures;
  return { ...engine, failures, reason: why, state: out ? engine.state : 'unhealthy' };
}

function answered(state: PoolState, engine: Tracked, seen: Seen, policy: PoolPolicy): Tracked {
  const before = engine.last;
  // Not said once is not another process: what was known is what the next answer is held against.
  const processStart = seen.processStart ?? before?.processStart ?? null;
  // Whoever gave it another tag gave it weights.
  const emptied = engine.emptied && !(before !== null && isRetagged(before, seen));
  const now: Tracked = { ...engine, emptied, failures: 0, last: { ...seen, processStart } };
  if (before !== null && isRestarted(before, seen)) {
    const fresh: Tracked = { ...now, holds: null, loaded: [], emptied: false, syncFailures: 0 };
    const asleep = sleeping(fresh, seen);
    return asleep ?? settle(state.desired, { ...fresh, state: 'syncing', reason: 'it was restarted' });
  }
  const asleep = sleeping(now, seen);
  if (asleep !== null) return asleep;
  if (engine.state === 'quarantined') {
    // Whoever put it right gave it the fleet's version, or left it to us.
    const isRight = seen.paused === false && saysVersion(state.desired, seen) && !emptied;
    return isRight ? settle(state.desired, now) : now;
  }
  if (seen.paused === true) return { ...now, state: 'unhealthy', reason: 'found paused' };
  // It was gone long enough to have been restarted, and does not say that it was not.
  const wasAway = engine.state !== 'discovering' && engine.failures >= policy.failures;
  if (wasAway && !isSameProcess(before, seen)) {
    return settle(state.desired, {
      ...now,
      holds: null,
      loaded: [],
      state: 'syncing',
      reason: 'it was away',
    });
  }
  if (before !== null && isRetagged(before, seen) && !saysVersion(state.desired, seen)) {
    if (seen.processStart === null) return settle(state.desired, { ...now, holds: null });
    // The same process: bringing it back would be a fight with whoever changed it.
    const reason = `somebody else changed its weight version from ${before.weightVersion} to ${seen.weightVersion}`;
    return { ...now, holds: null, state: 'quarantined', reason };
  }
  return settle(state.desired, now);
}

/** No request reaches it, and no weights; null when it is awake as far as is known. */
function sleeping(engine: Tracked, { sleep }: Seen): Tracked | null {
  if (sleep !== 'asleep' && sleep !== 'emptied') return null;
  const lost = sleep === 'emptied' ? { holds: null, loaded: [], emptied: true } : {};
  if (engine.state === 'quarantined') return { ...engine, ...lost };
  return { ...engine, ...lost, state: 'unhealthy', reason: `it ${describeSleep(sleep)}` };
}

function isRestarted(before: Seen, now: Seen): boolean {
  return (
    before.processStart !== null && now.processStart !== null && before.processStart !== now.processStart
  );
}

function isSameProcess(before: Seen | null, now: Seen): boolean {
  return before !== null && before.processStart !== null && before.processStart === now.processStart;
}

function isRetagged(before: Seen, now: Seen): boolean {
  return before.weightVersion !== null && before.weightVersion !== now.weightVersion;
}

const EMPTIED = 'its weights were discarded while it slept, and its tag still names them: push a version';

/** Ready when it is known to hold what the fleet is on, else it has to be brought there. */
function settle(desired: Desired | null, engine: Tracked): Tracked {
  if (engine.last === null && engine.holds === null) return engine;
  if (engine.emptied) return { ...engine, state: 'quarantined', reason: EMPTIED };
  if (isAt(desired, engine)) return { ...engine, state: 'ready', reason: null };
  const reason = engine.state === 'syncing' ? engine.reason : 'it is not on the version of the fleet';
  return { ...engine, state: 'syncing', reason };
}

function isAt(desired: Desired | null, { holds, loaded, last }: Tracked): boolean {
  if (desired === null) return true;
  const weights = desired.weights === null || holds === keyOf(desired) || saysVersion(desired, last);
  // By what it lists: a server that comes back between two looks has none. By what it was given, where it does not list its own.
  const served = last?.adapters ?? loaded;
  return weights && desired.adapters.every((adapter) => served.some((has) => isSame(has, adapter)));
}

function saysVersion(desired: Desired | null, seen: Seen | null): boolean {
  const version = desired?.weights?.version ?? null;
  return version !== null && seen?.weightVersion === version;
}

/** Where both say their path, it must be one: a version is a directory. */
export function isSame(a: Adapter, b: Adapter): boolean {
  return a.name === b.name && (a.path === null || b.path === null || a.path === b.path);
}
