/** Engines whose update session was opened and then came to nothing: which may serve the old version again, and which may not. */
import { asWeightcastError, WeightcastError } from '../errors.js';
import { type EngineLink, onAll } from '../fleet/engine.js';
import type { Attempt } from './attempt.js';

/**
 * How an engine answered a request that makes it receive.
 * received: 200 · refused: it answered an error, so its round has ended · not-sent: its workers certainly never got the request · unstarted: the request to
 * open its session was not answered · unknown: anything else
 */
export type PostOutcome = 'received' | 'refused' | 'not-sent' | 'unstarted' | 'unknown';

export function postOutcome(error: unknown): PostOutcome {
  if (!(error instanceof WeightcastError)) return 'unknown';
  if (error.details.sent === false || NO_ROUTE.includes(error.details.status)) return 'not-sent';
  return wasAnswered(error) ? 'refused' : 'unknown';
}

/** Refused by the server before it came to a worker: no key, no such route. */
const NO_ROUTE: readonly unknown[] = [401, 403, 404, 405];

/** True when the engine itself refused: by its status, or in the body of a 200 (Dynamo). */
export function wasAnswered(error: unknown): boolean {
  if (!(error instanceof WeightcastError)) return false;
  const { status, refused } = error.details;
  return refused === true || (typeof status === 'number' && status >= 400);
}

/**
 * Puts engines that received no byte back to the old version by an empty round (contracts: vLLM, Failure and recovery, 2). It must be known that
 * the round before it ended and that nothing was loaded in it; an engine of which that is not known stays quarantined, as do suspects.
 *
 * @param timeoutMs for all of it
 * @throws WeightcastError WC_UPDATE_BUSY when another push took the engines over
 */
export async function restore(
  attempt: Attempt,
  suspects: ReadonlySet<string>,
  posts: ReadonlyMap<string, PostOutcome>,
  timeoutMs: number,
): Promise<void> {
  const { ledger, journal } = attempt;
  const endsAt = performance.now() + timeoutMs;
  await journal.mine();
  await onAll(attempt.engines, async (engine) => {
    const outcome = posts.get(engine.id) ?? 'unknown';
    if (outcome === 'unstarted' && !(await endUnanswered(attempt, engine, endsAt))) return;
    if (suspects.has(engine.id)) {
      ledger.set(engine.id, 'quarantined', 'it may hold what an earlier push left in it');
      return;
    }
    const start = engine.admin.startUpdate();
    if (start === null && outcome === 'not-sent') {
      ledger.set(engine.id, 'paused', 'it was not asked to receive');
      return;
    }
    const known = outcome !== 'unknown' && outcome !== 'received';
    if (start === null || !known || !engine.admin.capabilities.restoresByEmptyRound) {
      quarantineUnfinished(attempt, engine, outcome);
      return;
    }
    try {
      if (outcome !== 'unstarted') await emptyRound(engine, start, { open: outcome === 'not-sent', endsAt });
      ledger.set(engine.id, 'paused', 'restored by an empty round: it had received nothing');
    } catch (error) {
      ledger.quarantine(
        engine.id,
        asWeightcastError(error, 'WC_ENGINE_HTTP', { engine: engine.id, phase: 'transfer' }),
      );
    }
  });
}

/**
 * An engine that takes a finish had opened its session: that was an empty round. Where it does not, the request may still come, after whatever is done here,
 * and an engine that serves by then would die of its next request: it stays out.
 */
async function endUnanswered({ ledger }: Attempt, engine: EngineLink, endsAt: number): Promise<boolean> {
  const finish = engine.admin.finishUpdate({ weightVersion: null });
  try {
    if (finish !== null) await engine.call(finish, { timeoutMs: Math.max(1, endsAt - performance.now()) });
    return true;
  } catch (cause) {
    ledger.mayStillStart.add(engine.id);
    ledger.quarantine(
      engine.id,
      new WeightcastError(
        'WC_UPDATE_QUARANTINED',
        'it did not answer the request to open its update session, which may still take effect: its next request would then kill it',
        {
          ...{ engine: engine.id, phase: 'transfer', cause },
          remedy: 'Push again once the server answers; restart it if it does not.',
        },
      ),
    );
    return false;
  }
}

/** A refused update has closed its session (since 0.23), so the round starts anew; one that was only opened is finished. */
async function emptyRound(
  engine: EngineLink,
  start: NonNullable<ReturnType<EngineLink['admin']['startUpdate']>>,
  round: { readonly open: boolean; readonly endsAt: number },
): Promise<void> {
  const finish = engine.admin.finishUpdate({ weightVersion: null });
  if (finish === null) throw new Error('unreachable: a three-step engine finishes');
  const call = (exchange: typeof start) =>
    engine.call(exchange, { timeoutMs: Math.max(1, round.endsAt - performance.now()) });
  if (round.open) {
    const closed = await call(finish).then(
      () => true,
      (error: unknown) => {
        if (!wasAnswered(error)) throw error;
        return false;
      },
    );
    if (closed) return;
  }
  await call(start);
  await call(finish);
}

/** A real vLLM dies at its next request in this state, so it stays paused until it is healed. */
export function quarantineUnfinished(
  { ledger }: Attempt,
  engine: EngineLink,
  outcome: PostOutcome = 'unknown',
): void {
  if (outcome === 'unknown') ledger.mayStillReceive.add(engine.id);
  const why =
    engine.admin.startUpdate() === null
      ? 'it was asked to receive and did not end it: it may hold a part of the new weights, or still wait for the rest'
      : 'its update session was opened and not finished: it would die at its next request';
  ledger.quarantine(
    engine.id,
    new WeightcastError('WC_UPDATE_QUARANTINED', why, { engine: engine.id, phase: 'transfer' }),
  );
}
