/** Keyword arguments of prime-rl's worker extension, exact: one too many is a TypeError (contracts/dynamo.md 1.6, 2.2). */
import type { GroupSeat } from '../admin.js';

/** Its ranks leave the trainer out: rank = rank_offset + device + 1, world = inference_world_size + 1. */
export function initBroadcasterBody(seat: GroupSeat): Record<string, unknown> {
  return {
    host: seat.masterAddress,
    port: seat.masterPort,
    rank_offset: seat.rankOffset - 1,
    inference_world_size: seat.worldSize - 1,
    timeout: Math.max(1, Math.ceil(seat.timeoutMs / 1000)),
    quantize_in_weight_transfer: false,
    engine_rpc: 'init_broadcaster',
  };
}

export function updateFromPathBody(directory: string, tag: object): Record<string, unknown> {
  return { ...tag, weight_dir: directory, engine_rpc: 'update_weights_from_path' };
}
