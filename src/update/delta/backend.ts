/** Which engines were started to receive deltas. */
import { WeightcastError } from '../../errors.js';
import { type EngineLink, onAll } from '../../fleet/engine.js';
import type { Attempt } from '../attempt.js';
import { nameOf } from '../lacking.js';

const SPARSE = 'sparse_nccl';

/**
 * Engines that take no deltas: why. The backend is what the user says, or the server itself; one that can't say passes, with a note: its answer to the delta
 * decides.
 */
export async function refuseBackends(attempt: Attempt): Promise<ReadonlyMap<string, string>> {
  const { engines, ledger, settings, signal } = attempt;
  const unable = new Map<string, string>();
  await onAll(engines, async (engine) => {
    const { sparse, transferBackend } = engine.admin.capabilities;
    if (sparse !== true) {
      unable.set(engine.id, `${nameOf(engine.admin)} takes no deltas in a checkpoint's own coordinates`);
      return;
    }
    const exchange = transferBackend === undefined ? (engine.admin.transferBackend?.() ?? null) : null;
    const timeoutMs = settings.timeouts.probe;
    const asked =
      exchange === null ? null : await engine.call(exchange, { signal, timeoutMs }).catch(() => null);
    const backend = transferBackend ?? asked;
    if (backend === SPARSE) return;
    if (backend === null)
      ledger.note(`${engine.id}: does not say by which backend it receives: its answer to the delta decides`);
    else if (backend === '') unable.set(engine.id, 'it was started without a backend of weight transfer');
    else unable.set(engine.id, `it receives by the backend ${backend}`);
  });
  signal.throwIfAborted();
  return unable;
}

/** @param why as {@link refuseBackends} gives it */
export function withoutSparse({ id }: EngineLink, why: string): WeightcastError {
  return new WeightcastError('WC_ENGINE_NOT_CONFIGURED', `no delta can be sent to it: ${why}`, {
    engine: id,
    phase: 'preflight',
    remedy: `Start it (vLLM 0.30 or later) with --weight-transfer-config '{"backend":"${SPARSE}"}', or leave out --delta-from.`,
  });
}

/** The user says that it receives deltas, and whole weights are to be sent. */
export function deltasOnly({ id }: EngineLink): WeightcastError {
  return new WeightcastError('WC_ENGINE_NOT_CONFIGURED', `it receives deltas only (${SPARSE})`, {
    engine: id,
    phase: 'preflight',
    remedy:
      'Name the version that it holds by --delta-from, or load whole weights by --transport filesystem.',
  });
}
