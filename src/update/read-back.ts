import { asWeightcastError, WeightcastError } from '../errors.js';
import { type EngineLink, onAll } from '../fleet/engine.js';
import type { Attempt } from './attempt.js';
import { tagFor } from './tag.js';

/** Before they serve: an engine that was given a weight version and says another one is quarantined. One that has none, or can't say now, passes. */
export async function requireVersions(attempt: Attempt, engines: readonly EngineLink[]): Promise<void> {
  const { ledger, settings } = attempt;
  await onAll(engines, async (engine) => {
    const tag = tagGiven(attempt, engine);
    const exchange = tag === null ? null : engine.admin.weightVersion();
    if (exchange === null) return;
    try {
      const read = await engine.call(exchange, { timeoutMs: settings.timeouts.probe });
      ledger.weightVersion(engine.id, read);
      if (read !== tag) throw otherVersion(read, String(tag));
    } catch (error) {
      const cause = asWeightcastError(error, 'WC_ENGINE_PROTOCOL', { engine: engine.id, phase: 'verify' });
      if (cause.code === 'WC_VERIFY_MISMATCH') ledger.quarantine(engine.id, cause);
      else ledger.note(`${engine.id}: its weight version could not be read back: ${cause.message}`);
    }
  });
}

/** A tag that is made of the checkpoint says nothing of bytes that an earlier push left: it may have called them otherwise. */
function tagGiven(attempt: Attempt, engine: EngineLink): string | null {
  if (attempt.version === null && !attempt.ledger.wasGiven(engine.id)) return null;
  return tagFor(attempt, engine);
}

function otherVersion(read: string, tag: string): WeightcastError {
  return new WeightcastError(
    'WC_VERIFY_MISMATCH',
    `it says weight version ${read} after an update to ${tag}: it may have loaded something else`,
    { remedy: 'See its log; a push with --fallback filesystem heals it.' },
  );
}

/** Reads the weight version back where engines have one, outside the pause; remembers it for the next update of the session. */
export async function readBack(attempt: Attempt, remember: Map<string, string>): Promise<void> {
  const { ledger, settings } = attempt;
  await onAll(attempt.engines, async (engine) => {
    const exchange = engine.admin.weightVersion();
    if (exchange === null || !ledger.is(engine.id, 'serving-new', 'serving-old')) return;
    const read = await engine.call(exchange, { timeoutMs: settings.timeouts.probe });
    ledger.weightVersion(engine.id, read);
    remember.set(engine.id, read);
    if (!ledger.is(engine.id, 'serving-new') || !ledger.wasGiven(engine.id)) return;
    const tag = tagFor(attempt, engine);
    if (tag !== null && read !== tag) {
      ledger.note(`${engine.id}: says weight version ${read} after an update to ${tag}`);
    } else if (tag === null && read !== 'default') {
      ledger.note(`${engine.id}: still says weight version ${read}, since none was given for this update`);
    }
  });
}
