/** What the system port's /metrics say of a worker. */
import type { Reader } from './read.js';

export interface WorkerMetrics {
  /** The u64 under which discovery and the frontend know this process; a restart has another. */
  readonly instanceId: bigint | null;
  /** Requests that are being generated at this moment. */
  readonly inFlight: number | null;
}

const WORKER_ID = /^dynamo_component_uptime_seconds\{[^}\n]*\bworker_id="([0-9a-f]{1,16})"/m;
const IN_FLIGHT =
  /^dynamo_component_inflight_requests\{[^}\n]*\bdynamo_endpoint="generate"[^}\n]*\} (\d{1,9})(?:\.0+)?$/m;

/** Never fails: metrics are no part of the protocol. */
export const workerMetrics: Reader<WorkerMetrics> = ({ status, text }) => {
  const id = status === 200 ? WORKER_ID.exec(text)?.[1] : undefined;
  const inFlight = status === 200 ? IN_FLIGHT.exec(text)?.[1] : undefined;
  return {
    instanceId: id === undefined ? null : BigInt(`0x${id}`),
    inFlight: inFlight === undefined ? null : Number(inFlight),
  };
};
