import { onAll } from '../fleet/engine.js';
import type { Attempt } from './attempt.js';

/** Reads the weight version back where engines have one, outside the pause; remembers it for the next update of the session. */
export async function readBack(attempt: Attempt, remember: Map<string, string>): Promise<void> {
  const { ledger, version, settings } = attempt;
  await onAll(attempt.engines, async (engine) => {
    const exchange = engine.admin.weightVersion();
    if (exchange === null || !ledger.is(engine.id, 'serving-new', 'serving-old')) return;
    const read = await engine.call(exchange, { timeoutMs: settings.timeouts.probe });
    ledger.weightVersion(engine.id, read);
    remember.set(engine.id, read);
    if (!ledger.is(engine.id, 'serving-new')) return;
    if (version !== null && read !== version) {
      ledger.note(`${engine.id}: says weight version ${read} after an update to ${version}`);
    } else if (version === null && read !== 'default') {
      ledger.note(`${engine.id}: still says weight version ${read}, since none was given for this update`);
    }
  });
}
