import type { EngineFacts, EngineLink } from '../fleet/engine.js';
import type { Checkpoint } from '../weights/checkpoint.js';
import type { Beside } from './claim/found.js';
import type { Journal } from './claim/journal.js';
import type { Ledger } from './ledger.js';
import type { Settings } from './settings.js';
import type { EngineState, TransferReport, TransportName } from './types.js';

/** One attempt to move a fleet to one checkpoint: what every phase needs to know. */
export interface Attempt {
  readonly settings: Settings;
  readonly engines: readonly EngineLink[];
  readonly ledger: Ledger;
  /** Told before engines are asked for what a successor must know of. */
  readonly journal: Journal;
  readonly checkpoint: Checkpoint;
  readonly version: string | null;
  readonly facts: ReadonlyMap<string, EngineFacts>;
  /** Engines of the session whose workers answer late; see late-answers.ts. */
  readonly late: Set<string>;
  /** Engines that serve and are not moved by this attempt: nothing else may be served beside them. Absent where every engine is paused first. */
  readonly beside?: Beside;
  /** Aborts what can still be undone; ignored once bytes have arrived. */
  readonly signal: AbortSignal;
}

/**
 * Carries the bytes of one attempt to paused engines. `transfer` never rejects for one engine's sake: it leaves each engine in the ledger as
 * 'received' (all bytes, session finished), 'paused' (untouched, proven restorable) or 'quarantined' (anything else).
 */
export interface Carrier {
  readonly name: TransportName;
  transfer(attempt: Attempt): Promise<TransferReport>;
  /** Frees what was staged. Safe to call twice. */
  close(): Promise<void>;
}

/** Engines of the attempt in one of these states. */
export function enginesIn(attempt: Attempt, ...states: readonly EngineState[]): EngineLink[] {
  const ids = new Set(attempt.ledger.in(...states));
  return attempt.engines.filter((engine) => ids.has(engine.id));
}
