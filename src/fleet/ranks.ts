/** Which rank each engine's workers have: rank 0 is the trainer, then the engines one after another. */

export interface RankSeat {
  readonly engine: string;
  readonly rankOffset: number;
  readonly workers: number;
}

export interface RankPlan {
  /** Rank 0 included. */
  readonly worldSize: number;
  readonly seats: readonly RankSeat[];
}

/**
 * Seats engines in the order given. Worker r of an engine is rank `rankOffset + r` (vLLM: `nccl_common.py`).
 *
 * @example
 * planRanks([{ engine: 'a', workers: 2 }, { engine: 'b', workers: 4 }]).seats[1]?.rankOffset; // 3
 */
export function planRanks(
  engines: readonly { readonly engine: string; readonly workers: number }[],
): RankPlan {
  const seats: RankSeat[] = [];
  let next = 1;
  for (const { engine, workers } of engines) {
    if (!Number.isSafeInteger(workers) || workers < 1)
      throw new RangeError(`${engine} has ${workers} workers`);
    seats.push({ engine, rankOffset: next, workers });
    next += workers;
  }
  return { worldSize: next, seats };
}
