/** How long a stub engine takes: drawn from a seed, so that all contestants of a round meet the same engines. */
import { createHash } from 'node:crypto';

/** Milliseconds, both included. vLLM's pause_generation sleeps 20 ms at the least, and then waits for its engine cores. */
export const SERVICE_MS = { least: 20, most: 60 } as const;

export interface Draw {
  readonly seed: number;
  readonly engine: number;
  readonly route: 'pause' | 'resume';
}

export function serviceMs({ seed, engine, route }: Draw): number {
  const digest = createHash('sha256').update(`${seed} ${engine} ${route}`).digest();
  return SERVICE_MS.least + (digest.readUInt32LE() % (SERVICE_MS.most - SERVICE_MS.least + 1));
}
