/** Pausing and resuming a fleet: all engines at once, and nobody left paused without being reported. */
import { asWeightcastError, WeightcastError } from '../errors.js';
import { type EngineLink, onAll } from '../fleet/engine.js';
import { type Attempt, enginesIn } from './attempt.js';

/**
 * Pauses every engine. If one can't be paused, those that were untouched are resumed and the error is thrown: the fleet serves the old version.
 *
 * @throws WeightcastError of the engine that could not be paused, or WC_UPDATE_ABORTED
 */
export async function pauseAll(attempt: Attempt): Promise<void> {
  const { ledger, settings, engines, signal } = attempt;
  ledger.enter('pause');
  signal.throwIfAborted();
  const { failed } = await onAll(engines, async (engine) => {
    ledger.pauseRequested(engine.id);
    const suspect = ledger.is(engine.id, 'quarantined');
    await engine.call(engine.admin.pause({ mode: settings.pauseMode, clearCache: settings.clearCache }), {
      signal,
      timeoutMs: settings.timeouts.pause,
    });
    // One that was found paused stays quarantined until it holds known bytes.
    if (!suspect) ledger.set(engine.id, 'paused');
  });
  if (failed.size === 0 && !signal.aborted) return;

  for (const [id, error] of failed) {
    ledger.fail(id, error);
    // The request may still take effect, so it is resumed like the others.
    if (ledger.is(id, 'serving-old')) ledger.set(id, 'paused', 'the pause was not confirmed');
  }
  await resumeUntouched(attempt);
  if (signal.aborted)
    throw new WeightcastError('WC_UPDATE_ABORTED', 'interrupted while pausing', { phase: 'pause' });
  const [id, error] = [...failed][0] as [string, unknown];
  throw asWeightcastError(error, 'WC_ENGINE_UNREACHABLE', { engine: id, phase: 'pause' });
}

/** Resumes engines that still hold the old version. */
export async function resumeUntouched(attempt: Attempt): Promise<void> {
  attempt.ledger.enter('resume');
  await resume(attempt, enginesIn(attempt, 'paused'), 'serving-old');
}

/** Resumes engines; one that can't be resumed is quarantined. Not interruptible: leaving engines paused is never the better end. */
export async function resume(
  attempt: Attempt,
  engines: readonly EngineLink[],
  state: 'serving-old' | 'serving-new',
): Promise<void> {
  const { ledger, settings } = attempt;
  const { failed } = await onAll(engines, async (engine) => {
    await engine.call(engine.admin.resume(), { timeoutMs: settings.timeouts.resume });
    ledger.resumed(engine.id);
    ledger.set(engine.id, state);
  });
  for (const [id, error] of failed)
    ledger.quarantine(id, asWeightcastError(error, 'WC_ENGINE_UNREACHABLE', { engine: id, phase: 'resume' }));
}

/** Resets prefix caches that the pause did not clear: they are stale after a base reload on every vLLM version. */
export async function resetCaches(attempt: Attempt): Promise<void> {
  const { ledger, settings } = attempt;
  if (settings.clearCache) return;
  ledger.enter('reset');
  await onAll(enginesIn(attempt, 'received', 'verified'), async (engine) => {
    try {
      const exchange = engine.admin.resetPrefixCache({ resetRunningRequests: settings.pauseMode !== 'keep' });
      const done = await engine.call(exchange, { timeoutMs: settings.timeouts.pause });
      if (done === false) {
        ledger.note(
          `${engine.id}: requests in flight hold the prefix cache, so blocks of the old weights stay until they end`,
        );
      }
    } catch (error) {
      ledger.note(`${engine.id}: the prefix cache could not be reset: ${String(error)}`);
    }
  });
}
