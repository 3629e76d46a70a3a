/** What the system port's /metrics say of a worker. */
import type { SleepState } from '../admin.js';
import type { Reader } from './read.js';

export interface WorkerMetrics {
  /** The u64 under which discovery and the frontend know this process; a restart has another. */
  readonly instanceId: bigint | null;
  /** Requests that are being generated at this moment. */
  readonly inFlight: number | null;
  readonly sleep: SleepState | null;
}

const WORKER_ID = /^dynamo_component_uptime_seconds\{[^}\n]*\bworker_id="([0-9a-f]{1,16})"/m;
const IN_FLIGHT =
  /^dynamo_component_inflight_requests\{[^}\n]*\bdynamo_endpoint="generate"[^}\n]*\} (\d{1,9})(?:\.0+)?$/m;
/**
 * One line a state and engine: awake, weights_offloaded (level 1), discard_all (level 2), with 1 for the one that it is in. The worker itself has no route that
 * says it, and its `/v1/models` are those of all (vllm/v1/metrics/loggers.py of 0.31).
 */
const SLEEP = /^vllm:engine_sleep_state\{[^}\n]*\bsleep_state="(\w{1,32})"[^}\n]*\} ([01])(?:\.0+)?$/gm;

/** Never fails: metrics are no part of the protocol. */
export const workerMetrics: Reader<WorkerMetrics> = ({ status, text }) => {
  const id = status === 200 ? WORKER_ID.exec(text)?.[1] : undefined;
  const inFlight = status === 200 ? IN_FLIGHT.exec(text)?.[1] : undefined;
  return {
    instanceId: id === undefined ? null : BigInt(`0x${id}`),
    inFlight: inFlight === undefined ? null : Number(inFlight),
    sleep: status === 200 ? sleepOf(text) : null,
  };
};

function sleepOf(text: string): SleepState | null {
  const said = [...text.matchAll(SLEEP)].map(([, state, value]) => `${state} ${value}`);
  if (said.includes('discard_all 1')) return 'emptied';
  if (said.includes('awake 0')) return 'asleep';
  return said.includes('awake 1') ? 'awake' : null;
}
