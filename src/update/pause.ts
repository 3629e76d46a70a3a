/** Pausing and resuming a fleet: all engines at once, and nobody left paused without being reported. */
import { asWeightcastError, WeightcastError } from '../errors.js';
import { type EngineLink, onAll } from '../fleet/engine.js';
import { type Attempt, enginesIn } from './attempt.js';
import { servesAfterAll } from './late-resume.js';
import { pauseEngine } from './pause-engine.js';
import { warmUp } from './warm-up.js';

/**
 * Pauses every engine. If one can't be paused, those that were untouched are resumed and the error is thrown: the fleet serves the old version.
 *
 * @throws WeightcastError of the engine that could not be paused, or WC_UPDATE_ABORTED
 */
export async function pauseAll(attempt: Attempt): Promise<void> {
  const { ledger, settings, engines, signal, journal } = attempt;
  await warmUp(attempt);
  ledger.enter('pause');
  signal.throwIfAborted();
  await journal.ask(
    'pause',
    engines.map(({ id }) => id),
  );
  const { failed } = await onAll(engines, async (engine) => {
    ledger.pauseRequested(engine.id);
    const suspect = ledger.is(engine.id, 'quarantined');
    await pauseEngine(attempt, engine, { signal, timeoutMs: settings.timeouts.pause });
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
  for (const [id, error] of failed) {
    if (!ledger.is(id, 'serving-old') || !mayComeLate(error)) continue;
    ledger.set(
      id,
      'unknown',
      'it was resumed, but its pause was never answered: should it come late, it stays paused',
    );
  }
  if (signal.aborted)
    throw new WeightcastError('WC_UPDATE_ABORTED', 'interrupted while pausing', { phase: 'pause' });
  const [id, error] = [...failed][0] as [string, unknown];
  throw asWeightcastError(error, 'WC_ENGINE_UNREACHABLE', { engine: id, phase: 'pause' });
}

/** The request was sent and not answered: it may still be on its way. */
function mayComeLate(error: unknown): boolean {
  if (!(error instanceof WeightcastError)) return true;
  return error.details.sent !== false && typeof error.details.status !== 'number';
}

/** Resumes engines that still hold the old version. */
export async function resumeUntouched(attempt: Attempt): Promise<void> {
  attempt.ledger.enter('resume');
  await resume(attempt, enginesIn(attempt, 'paused'), 'serving-old');
}

/**
 * Resumes engines; one that can't be resumed is quarantined. Not interruptible: leaving engines paused is never the better end.
 *
 * @throws WeightcastError WC_UPDATE_BUSY when another push took them over: it may be filling them
 */
export async function resume(
  attempt: Attempt,
  engines: readonly EngineLink[],
  state: 'serving-old' | 'serving-new',
): Promise<void> {
  const { ledger, settings, journal } = attempt;
  if (engines.length === 0) return;
  await journal.mine();
  const { failed } = await onAll(engines, async (engine) => {
    await engine.call(engine.admin.resume(), { timeoutMs: settings.timeouts.resume }).catch(async (error) => {
      const processStart = attempt.facts.get(engine.id)?.processStart ?? null;
      if (!mayComeLate(error) || !(await servesAfterAll(engine, processStart))) throw error;
      ledger.note(`${engine.id}: its resume was not answered, but it says that it is not paused`);
    });
    ledger.resumed(engine.id);
    ledger.set(engine.id, state);
  });
  for (const [id, error] of failed) {
    if (state === 'serving-new') ledger.mayServeNew.add(id);
    ledger.quarantine(
      id,
      asWeightcastError(error, 'WC_ENGINE_UNREACHABLE', { engine: id, phase: 'resume' }),
      'its resume was not confirmed, so it may be serving, or serve later',
    );
  }
}

/**
 * Resets prefix caches that the pause did not clear: they are stale after a base reload on every vLLM version. Running requests hold blocks; then
 * they are reset too, since serving old and new in one answer is worse. An engine that can't be reset is quarantined.
 */
export async function resetCaches(attempt: Attempt): Promise<void> {
  const { ledger, settings, journal } = attempt;
  if (settings.clearCache) return;
  ledger.enter('reset');
  await journal.mine();
  const { failed } = await onAll(enginesIn(attempt, 'received', 'verified'), async (engine) => {
    const timeoutMs = settings.timeouts.pause;
    const gently = engine.admin.resetPrefixCache({ resetRunningRequests: false });
    const fully = engine.admin.resetPrefixCache({ resetRunningRequests: true });
    if (gently === null || fully === null) {
      ledger.note(
        `${engine.id}: has no way to reset its prefix cache: send the weight version as cache_salt with every request`,
      );
      return;
    }
    if ((await engine.call(gently, { timeoutMs })) !== false) return;
    if ((await engine.call(fully, { timeoutMs })) === false) {
      throw new WeightcastError(
        'WC_ENGINE_PROTOCOL',
        'its prefix cache could not be reset, so it holds blocks of the old weights',
      );
    }
    ledger.note(`${engine.id}: requests in flight held the prefix cache, so they were made to prefill again`);
  });
  for (const [id, error] of failed) {
    ledger.quarantine(id, asWeightcastError(error, 'WC_ENGINE_HTTP', { engine: id, phase: 'reset' }));
  }
}
