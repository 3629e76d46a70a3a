/** Reference prime-rl servers: the processes of a reference engine, with prime-rl's routes and its stream. */

import { WeightcastError } from '../../errors.js';
import { type ReferenceEngine, type ReferenceEngineOptions, startEngineProcess } from '../engine.js';
import type { PrimeRlFaults } from './faults.js';
import { PRIME_RL_RELEASES, type PrimeRlRelease, RELEASES } from './releases.js';

export interface ReferencePrimeRlOptions
  extends Omit<ReferenceEngineOptions, 'version' | 'devMode' | 'loraUpdating' | 'weightTransfer'> {
  /** The prime-rl release to be; default 0.8.0. */
  readonly release?: PrimeRlRelease;
  /** `weight_broadcast.type`, for life; default 'nccl'. */
  readonly broadcast?: 'nccl' | 'filesystem';
  /** Milliseconds until /liveness gives the engine up; default 30 000. */
  readonly livenessTimeoutMs?: number;
  /** VLLM_SERVER_DEV_MODE, in which vLLM's routes shadow prime-rl's; default false. */
  readonly devMode?: boolean;
  /** Serves /openapi.json; default true. */
  readonly documented?: boolean;
  /** Routes that it lacks; default none. */
  readonly missing?: readonly string[];
  readonly routeFaults?: PrimeRlFaults;
}

/**
 * Starts one reference prime-rl server over worker processes that receive its stream.
 *
 * @throws WeightcastError WC_CONFIG_INVALID for an unknown release, WC_REFERENCE_ENGINE when it does not start
 * @example
 * ```ts
 * await using engine = await startReferencePrimeRl({ model: '/models/step_0', workers: 2 });
 * await fetch(`${engine.url}/pause`, { method: 'POST' });
 * ```
 */
export function startReferencePrimeRl(options: ReferencePrimeRlOptions): Promise<ReferenceEngine> {
  const { release = '0.8.0', broadcast = 'nccl', livenessTimeoutMs = 30_000, devMode = false } = options;
  const { documented = true, missing = [], routeFaults = {}, ...engine } = options;
  if (!PRIME_RL_RELEASES.includes(release)) {
    throw new WeightcastError(
      'WC_CONFIG_INVALID',
      `no prime-rl ${String(release)}; there are ${PRIME_RL_RELEASES.join(', ')}`,
    );
  }
  const start = { release, broadcast, livenessTimeoutMs, devMode, documented, missing, routeFaults };
  return startEngineProcess({ ...engine, version: RELEASES[release].vllm }, { primeRl: start });
}
