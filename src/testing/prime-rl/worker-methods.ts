/** What prime-rl's worker extension does, whoever calls it: its own server, or a Dynamo worker by `engine_rpc` (contracts/dynamo.md 1.6). */
import type { Core } from '../server/core.js';
import { INTACT } from '../server/session.js';
import { type JoinOrder, WorkerError } from '../server/transfer-info.js';

export async function initBroadcaster(core: Core, order: JoinOrder): Promise<void> {
  await core.workers.join(order);
  core.joined = true;
}

/**
 * A failed load leaves layers without memory: the next token kills the engine.
 *
 * @param directory null: what rank 0 broadcasts
 */
export async function updateWeightsFromPath(core: Core, directory: string | null): Promise<void> {
  if (directory === null && !core.joined) {
    throw new WorkerError("'NCCLWeightUpdateWorker' object has no attribute 'nccl_broadcast_receiver'");
  }
  core.session = { ...INTACT, stripped: true, failed: true };
  if (directory === null) await core.workers.receiveStream();
  else await core.workers.load(directory);
  core.session = INTACT;
}
