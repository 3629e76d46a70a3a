/** /init_broadcaster's body, as the union of all generations: a server takes what it knows (contracts/prime-rl.md 1.2 and 12). */
import { WeightcastError } from '../../errors.js';
import type { GroupSeat } from '../admin.js';
import type { Generation } from './generation.js';

/** Field names and their order as the wire has them. */
export interface InitBody {
  readonly host: string;
  readonly port: number;
  /** Counted from 0 among the workers: the trainer is not one. */
  readonly rank_offset: number;
  readonly inference_world_size: number;
  /** Whole seconds. */
  readonly timeout: number;
  readonly quantize_in_weight_transfer: false;
  readonly session_id: 'default';
  readonly gpus_per_server: number;
  readonly server_rank: number;
  readonly num_inference_server: number;
}

/**
 * The body for one server.
 *
 * @throws WeightcastError WC_CONFIG_INVALID where the generation knows only servers of one size and the fleet has several
 */
export function initBody(generation: Generation, seat: GroupSeat, engine: string): InitBody {
  const { fleet } = seat;
  const offsets = fleet.map((_, index) => fleet.slice(0, index).reduce((sum, workers) => sum + workers, 0));
  const rankOffset = seat.rankOffset - 1;
  const index = offsets.indexOf(rankOffset);
  const workers = fleet[index];
  if (workers === undefined)
    throw new RangeError(`rank ${seat.rankOffset} is no seat of ${fleet.join(', ')}`);
  if (generation.seatedBy !== 'rank_offset' && fleet.some((other) => other !== workers)) {
    throw new WeightcastError(
      'WC_CONFIG_INVALID',
      `prime-rl ${generation.version} counts ranks by ${generation.seatedBy}, which needs servers of one size: these have ${fleet.join(', ')} workers`,
      {
        engine,
        phase: 'rendezvous',
        remedy: 'Update it to prime-rl 0.6 or later, or push to servers of one size at a time.',
      },
    );
  }
  return {
    host: seat.masterAddress,
    port: seat.masterPort,
    rank_offset: rankOffset,
    inference_world_size: seat.worldSize - 1,
    timeout: Math.max(1, Math.ceil(seat.timeoutMs / 1000)),
    quantize_in_weight_transfer: false,
    session_id: 'default',
    gpus_per_server: workers,
    server_rank: index,
    num_inference_server: fleet.length,
  };
}
