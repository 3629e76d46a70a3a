/** One engine's pause: in the mode that was asked for, or in the one that it can do now. */
import type { PauseMode } from '../engines/admin.js';
import { WeightcastError } from '../errors.js';
import type { CallOptions, EngineLink } from '../fleet/engine.js';
import type { Attempt } from './attempt.js';
import { nameOf } from './lacking.js';

/** A note is not worth more of a pause. */
const QUESTION_MS = 500;

/**
 * Pauses it, within the one deadline of `options`; where the engine says that it can't in this mode (Dynamo: 'keep' while LoRA requests run), once more in the mode that it names. What that
 * does to running requests is told.
 *
 * @throws WeightcastError of the engine
 */
export async function pauseEngine(attempt: Attempt, engine: EngineLink, options: CallOptions): Promise<void> {
  const mode = pauseModeFor(attempt, engine);
  const { clearCache } = attempt.settings;
  const endsAt = performance.now() + (options.timeoutMs ?? attempt.settings.timeouts.pause);
  const left = (): CallOptions => ({ ...options, timeoutMs: Math.max(1, endsAt - performance.now()) });
  const running = mode === 'abort' ? await runningRequests(attempt, engine, left()) : null;
  try {
    await engine.call(engine.admin.pause({ mode, clearCache }), left());
  } catch (error) {
    const other = otherMode(error);
    if (other === null || other === mode) throw error;
    attempt.ledger.note(
      `${engine.id}: can't pause by ${mode} now (${(error as Error).message}), so it pauses by ${other}`,
    );
    await engine.call(engine.admin.pause({ mode: other, clearCache }), left());
  }
  if (running !== null && running > 0) {
    attempt.ledger.note(
      `${engine.id}: ${running} ${running === 1 ? 'request was' : 'requests were'} running when the pause cut them short; to their clients they look finished`,
    );
  }
}

function otherMode(error: unknown): PauseMode | null {
  const mode = error instanceof WeightcastError ? error.details.fallbackPauseMode : null;
  return mode === 'keep' || mode === 'wait' || mode === 'abort' ? mode : null;
}

/** Just before they are aborted; null where that can't be known. */
async function runningRequests(
  { settings }: Attempt,
  engine: EngineLink,
  { signal, timeoutMs = QUESTION_MS }: CallOptions,
): Promise<number | null> {
  const exchange = engine.admin.runningRequests?.() ?? null;
  if (exchange === null) return null;
  const limitMs = Math.min(QUESTION_MS, settings.timeouts.probe, timeoutMs);
  return engine.call(exchange, { signal, timeoutMs: limitMs }).catch(() => null);
}

/** 0.16 says that it is not paused after keep, so a later push could not see that this one died: it waits instead. */
function pauseModeFor({ settings, ledger }: Attempt, { id, admin }: EngineLink): PauseMode {
  const [own, ...others] = admin.capabilities.pauseModes ?? [];
  if (own !== undefined && own !== settings.pauseMode && !others.includes(settings.pauseMode)) {
    ledger.note(`${id}: ${nameOf(admin)} can't pause by ${settings.pauseMode}, so it pauses by ${own}`);
    return own;
  }
  if (settings.pauseMode !== 'keep' || !admin.capabilities.isPausedLiesAfterKeep) return settings.pauseMode;
  ledger.note(`${id}: ${nameOf(admin)} hides a keep pause, so running requests are waited for`);
  return 'wait';
}
