/**
 * A resume that was never answered: a client's timeout cancels nothing, so it may have been applied, or be waiting behind something that blocks
 * (contracts/dynamo.md, Behaviour 4). What the engine says now counts; nothing is assumed.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { EngineLink } from '../fleet/engine.js';

/** Within a second of the deadline the update returns, so no longer than this. */
const PATIENCE_MS = 800;
const POLL_MS = 50;

/**
 * True once the engine says that it is not paused; false when it does not say so in time.
 *
 * @param processStart of the process that was to be resumed: one that was restarted meanwhile serves something else
 */
export async function servesAfterAll(engine: EngineLink, processStart: number | null): Promise<boolean> {
  const { admin } = engine;
  if (admin.capabilities.isPausedLiesAfterKeep) return false;
  const endsAt = performance.now() + PATIENCE_MS;
  const left = () => ({ timeoutMs: Math.max(1, endsAt - performance.now()) });
  for (;;) {
    const question = admin.isPaused();
    if (question === null) return false;
    const paused = await engine.call(question, left()).catch(() => null);
    if (paused === false) break;
    if (performance.now() + POLL_MS >= endsAt) return false;
    await sleep(POLL_MS);
  }
  const start = admin.processStart();
  const now = start === null ? null : await engine.call(start, left()).catch(() => null);
  return now === processStart;
}
