/** Telling engines to join the group of somebody else's rank 0. */
import type { Exchange } from '../engines/admin.js';
import { WeightcastError } from '../errors.js';
import { onAll } from '../fleet/engine.js';
import { planRanks } from '../fleet/ranks.js';
import { shareWorkers } from '../fleet/shares.js';
import {
  type ConnectedEngine,
  type EngineName,
  type OperationOptions,
  throwFirst,
  withEngines,
} from './engines.js';

export interface BroadcasterOptions extends OperationOptions {
  /** Where rank 0 (the trainer) listens, as the engines reach it. */
  readonly host: string;
  /** prime-rl's default is 29501. */
  readonly port: number;
  /** GPU workers of all engines, the trainer not included. Default: one for each engine whose number was not said. */
  readonly inferenceWorldSize?: number;
  /**
   * Milliseconds until the workers give up. Default 1,200,000, prime-rl's; 25,000 where one of the engines is a Dynamo worker, which ends itself after 30 s. Their
   * answers may take 15 s more, whatever `timeoutMs` says.
   */
  readonly joinTimeoutMs?: number;
}

const JOIN_MS = 1_200_000;

/** The workers give up first, and say why. */
const ANSWER_MS = 15_000;

/** A missing route is answered at once; who is silent for so long after another's 404 waits for its ranks. */
const MISSING_MS = 2_000;

/**
 * Seats every worker and tells all engines to join at once; resolves when all have, so rank 0 must listen by then. Engines without the route (404) are
 * skipped with a word to `onLog` where none has it, as they take their weights in another way. Where others have it, they would wait for ranks that never
 * come: that is an error, as is every other refusal, and nobody is waited for then.
 *
 * @returns the engines that joined and those that were skipped
 * @throws WeightcastError WC_CONFIG_INVALID for workers that can't be shared evenly; WC_ENGINE_NOT_CONFIGURED for an engine that has no route while others
 * join; of the first engine that refused
 */
export function initBroadcaster(
  engines: readonly EngineName[],
  options: BroadcasterOptions,
): Promise<{ readonly joined: readonly string[]; readonly skipped: readonly string[] }> {
  const { host, port, onLog } = options;
  return withEngines(engines, options, async (connected) => {
    const limits = connected.flatMap(({ admin }) => admin.capabilities.joinWithinMs ?? []);
    const joinTimeoutMs = options.joinTimeoutMs ?? Math.min(JOIN_MS, ...limits);
    const shares = connected.map(({ id, target }) => ({ id, workers: target.workers }));
    const fleet = shareWorkers(shares, options.inferenceWorldSize ?? null);
    const { worldSize, seats } = planRanks(
      connected.map(({ id }, index) => ({ engine: id, workers: fleet[index] ?? 0 })),
    );
    const offsets = new Map(seats.map(({ engine, rankOffset }) => [engine, rankOffset]));
    const { done, failed } = await invite(connected, joinTimeoutMs, options.signal, (engine) =>
      engine.admin.initBroadcaster({
        rankOffset: offsets.get(engine.id) ?? 0,
        worldSize,
        fleet,
        masterAddress: host,
        masterPort: port,
        uniqueId: null,
        packing: null,
        timeoutMs: joinTimeoutMs,
      }),
    );
    const joined = connected.map(({ id }) => id).filter((id) => done.get(id) === true);
    const skipped = connected.map(({ id }) => id).filter((id) => done.get(id) === false);
    if (options.signal?.aborted !== true && skipped.length > 0 && skipped.length < connected.length)
      throw withoutRoute(skipped, joined, failed, joinTimeoutMs);
    throwFirst(failed, joined);
    for (const id of skipped) onLog?.(`${id} has no route to join a group by: skipped`);
    return { joined, skipped };
  });
}

/** Asks all at once; as soon as one will not join, the calls of those that wait for it are given up. */
async function invite(
  engines: readonly ConnectedEngine[],
  joinTimeoutMs: number,
  signal: AbortSignal | undefined,
  seated: (engine: ConnectedEngine) => Exchange<void>,
) {
  const stop = new AbortController();
  const limits = {
    signal: signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]),
    timeoutMs: joinTimeoutMs + ANSWER_MS,
  };
  const seen = { joined: false, missing: false };
  let patience: NodeJS.Timeout | undefined;
  try {
    return await onAll(engines, async (engine) => {
      try {
        const joined = await engine.call(unlessMissing(seated(engine)), limits);
        seen[joined ? 'joined' : 'missing'] = true;
        if (seen.joined && seen.missing) stop.abort();
        if (seen.missing) patience ??= setTimeout(() => stop.abort(), MISSING_MS);
        return joined;
      } catch (error) {
        stop.abort();
        throw error;
      }
    });
  } finally {
    clearTimeout(patience);
  }
}

function withoutRoute(
  missing: readonly string[],
  joined: readonly string[],
  failed: ReadonlyMap<string, unknown>,
  joinTimeoutMs: number,
): WeightcastError {
  const [engine] = missing;
  const names = missing.join(', ');
  return new WeightcastError(
    'WC_ENGINE_NOT_CONFIGURED',
    `${names}: no route to join a group by (404), and the others wait for its workers`,
    {
      engine,
      remedy: `Start it so that it receives by NCCL; or leave it out here, and its workers out of the trainer's inference world size. Workers that were asked to join give up after ${joinTimeoutMs / 1000} s, or when restarted.`,
      cause: [...failed.values()][0],
      details: { status: 404, missing, done: joined, failed: [...failed.keys()] },
    },
  );
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
