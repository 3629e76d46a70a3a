/** Telling engines to join the group of somebody else's rank 0. */
import type { Exchange } from '../engines/admin.js';
import { planRanks } from '../fleet/ranks.js';
import { shareWorkers } from '../fleet/shares.js';
import { type EngineName, type OperationOptions, onEvery, withEngines } from './engines.js';

export interface BroadcasterOptions extends OperationOptions {
  /** Where rank 0 (the trainer) listens, as the engines reach it. */
  readonly host: string;
  /** prime-rl's default is 29501. */
  readonly port: number;
  /** GPU workers of all engines, the trainer not included. Default: one for each engine whose number was not said. */
  readonly inferenceWorldSize?: number;
  /** Milliseconds until the workers give up. Default 1,200,000, prime-rl's. */
  readonly joinTimeoutMs?: number;
}

const JOIN_MS = 1_200_000;

/**
 * Seats every worker and tells all engines to join at once; resolves when all have, so rank 0 must listen by then. An engine without the route (404)
 * is skipped with a word to `onLog`, as it takes its weights in another way; every other refusal is an error.
 *
 * @returns the engines that joined and those that were skipped
 * @throws WeightcastError WC_CONFIG_INVALID for workers that can't be shared evenly; of the first engine that refused
 */
export function initBroadcaster(
  engines: readonly EngineName[],
  options: BroadcasterOptions,
): Promise<{ readonly joined: readonly string[]; readonly skipped: readonly string[] }> {
  const { host, port, joinTimeoutMs = JOIN_MS, onLog } = options;
  return withEngines(engines, options, async (connected) => {
    const shares = connected.map(({ id, target }) => ({ id, workers: target.workers }));
    const fleet = shareWorkers(shares, options.inferenceWorldSize ?? null);
    const { worldSize, seats } = planRanks(
      connected.map(({ id }, index) => ({ engine: id, workers: fleet[index] ?? 0 })),
    );
    const offsets = new Map(seats.map(({ engine, rankOffset }) => [engine, rankOffset]));
    const found = await onEvery(connected, (engine) => {
      const seat = {
        rankOffset: offsets.get(engine.id) ?? 0,
        worldSize,
        fleet,
        masterAddress: host,
        masterPort: port,
        uniqueId: null,
        packing: null,
        timeoutMs: joinTimeoutMs,
      };
      return engine.call(unlessMissing(engine.admin.initBroadcaster(seat)));
    });
    const skipped = connected.map(({ id }) => id).filter((id) => found.get(id) === false);
    for (const id of skipped) onLog?.(`${id} has no route to join a group by: skipped`);
    return { joined: connected.map(({ id }) => id).filter((id) => found.get(id) === true), skipped };
  });
}

/** False where the route is not there. */
function unlessMissing(exchange: Exchange<void>): Exchange<boolean> {
  return {
    ...exchange,
    read: (reply) => {
      if (reply.status === 404) return false;
      exchange.read(reply);
      return true;
    },
  };
}
