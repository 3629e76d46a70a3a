/**
 * A real vLLM with several workers answers late after a worker call has failed: its executor raises at the first failure and leaves the other workers'
 * replies queued (measured on 0.32 with TP 2; `multiproc_executor.py`, get_response). From then on each call returns the first worker's answer and, for the
 * others, the answer to the call before: a 200 says nothing of them until the next call. Only a restart cures it, so what matters is asked again.
 */
import type { EngineLink } from '../fleet/engine.js';
import type { Attempt } from './attempt.js';

/** Failures whose replies may be queued: each puts the answers one call further back. */
const CALLS_BEHIND = 2;

/** How many calls must precede one whose answer counts; 0 for an engine whose workers never failed. */
export function callsBehind(attempt: Attempt, engine: EngineLink): number {
  const workers = attempt.facts.get(engine.id)?.workers ?? 1;
  if (workers < 2) return 0;
  return attempt.late.has(engine.id) || attempt.ledger.wasQuarantined(engine.id) ? CALLS_BEHIND : 0;
}

/**
 * Runs a harmless call until its answer counts; only that one may fail.
 *
 * @param timeoutMs for all of them together; each call gets what is left
 */
export async function settled<T>(
  attempt: Attempt,
  engine: EngineLink,
  timeoutMs: number,
  call: (leftMs: number) => Promise<T>,
): Promise<T> {
  const endsAt = performance.now() + timeoutMs;
  const left = (): number => Math.max(1, endsAt - performance.now());
  for (let behind = callsBehind(attempt, engine); behind > 0; behind -= 1)
    await call(left()).catch(() => undefined);
  return call(left());
}

/** Remembers for the session which engines answer late, and tells the user. */
export function rememberLateEngines(attempt: Attempt): void {
  for (const engine of attempt.engines) {
    if (callsBehind(attempt, engine) === 0) continue;
    attempt.late.add(engine.id);
    attempt.ledger.note(
      `${engine.id}: a call to its workers failed, and vLLM answers for all but the first of them late until it is restarted; what matters is asked again`,
    );
  }
}
