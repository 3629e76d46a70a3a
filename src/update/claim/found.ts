/** What the records of pushes that died say of an engine as it is now. */
import { engineKey } from './identity.js';
import { inDoubt, type RecordedEngine } from './record.js';
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
 * that was asked for may still come.
 */
function isMoot(engine: RecordedEngine, seen: SeenEngine): boolean {
  if (!seen.paused && !seen.mayHideAPause && engine.state !== 'paused') return true;
  return (
    engine.processStart !== null && seen.processStart !== null && engine.processStart !== seen.processStart
  );
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
  return record.engines.some(({ state }) => ['received', 'verified', 'serving-new'].includes(state));
}
