/** What the records of pushes that died say of an engine as it is now. */
import type { EngineState } from '../types.js';
import { engineKey } from './identity.js';
import { inDoubt, type PushFacts, type RecordedEngine } from './record.js';
import type { FoundRecord } from './records.js';

/**
 * nothing: no record, or it is about a process that is gone · untouched: left paused, with the old bytes for certain · whole: left paused, with a
 * whole new version · doubt: it may hold neither
 */
export interface Finding {
  readonly kind: 'nothing' | 'untouched' | 'whole' | 'doubt';
  /** The record that says so. */
  readonly record: FoundRecord | null;
  readonly engine: RecordedEngine | null;
}

export interface SeenEngine {
  readonly url: string;
  readonly paused: boolean;
  /** Unix seconds; null where the engine does not say. */
  readonly processStart: number | null;
  /** This version may be paused and say that it is not. */
  readonly mayHideAPause: boolean;
}

const NOTHING: Finding = { kind: 'nothing', record: null, engine: null };

/** Of several records the worst counts. */
export function findingOf(found: readonly FoundRecord[], seen: SeenEngine): Finding {
  const key = engineKey(seen.url);
  let worst = NOTHING;
  for (const record of found) {
    for (const engine of record.engines) {
      // One that answers has left the rendezvous, whatever it came to.
      if (engine.key !== key || !inDoubt({ ...engine, joining: false }) || isMoot(engine, seen)) continue;
      const kind = kindOf(record, engine);
      if (RANK[kind] >= RANK[worst.kind]) worst = { kind, record, engine };
    }
  }
  return worst;
}

const RANK = { nothing: 0, untouched: 1, whole: 2, doubt: 3 } as const;

/**
 * It was restarted since, or somebody resumed it: a real server does not survive a request with an open session, so one that serves was put right. A pause
 * that was asked for may still come; and wrong bytes that were found by a proof are served by an engine that somebody merely resumed.
 */
function isMoot(engine: RecordedEngine, seen: SeenEngine): boolean {
  const stays = engine.state === 'paused' || engine.state === 'quarantined';
  if (!seen.paused && !seen.mayHideAPause && !stays) return true;
  return wasRestarted(engine, seen);
}

function wasRestarted(engine: RecordedEngine, { processStart }: SeenEngine): boolean {
  return engine.processStart !== null && processStart !== null && engine.processStart !== processStart;
}

/** True for an engine that serves, and that by the last record which names it serves what this push brought. */
export function servesNew(found: readonly FoundRecord[], seen: SeenEngine, push: PushFacts): boolean {
  const known = lastWordOn(found, engineKey(seen.url));
  if (known === null || known.engine.settled || wasRestarted(known.engine, seen)) return false;
  return HOLDS_NEW.includes(known.engine.state) && isSamePush(known.record.head.push, push);
}

/** Engines that the records name and that were not looked at, by what they serve, or will once somebody recovers them. */
export interface Beside {
  readonly onNew: number;
  /** On the old version, or on any other than the one that this push brought. */
  readonly onOther: number;
}

/** @param looked keys of the engines of which more is known than the records say */
export function besides(found: readonly FoundRecord[], looked: ReadonlySet<string>, push: PushFacts): Beside {
  const keys = new Set(found.flatMap(({ engines }) => engines.map(({ key }) => key)));
  let [onNew, onOther] = [0, 0];
  for (const key of keys) {
    const known = looked.has(key) ? null : lastWordOn(found, key);
    if (known === null) continue;
    const { record, engine } = known;
    if (HOLDS_NEW.includes(engine.state)) {
      if (!engine.settled && isSamePush(record.head.push, push)) onNew += 1;
      else onOther += 1;
    } else if (HOLDS_OLD.includes(engine.state) && !(engine.state === 'paused' && holdsNew(record))) {
      onOther += 1;
    }
  }
  return { onNew, onOther };
}

/** The same files under the same name. */
export function isSamePush(one: PushFacts, other: PushFacts): boolean {
  if (one === other) return true;
  const known = one.identity !== undefined && one.identity === other.identity;
  return known && one.weights === other.weights && one.version === other.version;
}

function lastWordOn(
  found: readonly FoundRecord[],
  key: string,
): { readonly record: FoundRecord; readonly engine: RecordedEngine } | null {
  const known = found.flatMap((record) => {
    const engine = record.engines.find((each) => each.key === key);
    return engine === undefined ? [] : [{ record, engine }];
  });
  return known.at(-1) ?? null;
}

function kindOf(record: FoundRecord, engine: RecordedEngine): Finding['kind'] {
  switch (engine.state) {
    case 'paused':
      // Where others have the new version already, the old one must not be served beside it.
      return holdsNew(record) ? 'doubt' : 'untouched';
    case 'received':
    case 'verified':
      return 'whole';
    default:
      return 'doubt';
  }
}

/** The push that died while this engine joined its group; null when there is none. Its workers may wait for a rank that is gone, and then nothing is answered. */
export function joiningRecord(found: readonly FoundRecord[], url: string): FoundRecord | null {
  const key = engineKey(url);
  const joins = (engine: RecordedEngine) => engine.key === key && engine.joining && !engine.settled;
  return found.findLast(({ live, engines }) => !live && engines.some(joins)) ?? null;
}

function holdsNew(record: FoundRecord): boolean {
  return record.engines.some(({ state }) => HOLDS_NEW.includes(state));
}

const HOLDS_NEW: readonly EngineState[] = ['received', 'verified', 'serving-new'];
const HOLDS_OLD: readonly EngineState[] = ['unknown', 'serving-old', 'paused'];
