import { appendFileSync } from 'node:fs';

/** Writes `lane, RAN|SKIPPED|FAILED, why, seconds` to the file named by WEIGHTCAST_LANES_FILE, which `.ci/run` prints at its end. */
export function reportLane(
  lane: string,
  outcome: 'RAN' | 'FAILED' | 'SKIPPED',
  why: string,
  seconds: number,
): void {
  const line = `${lane}, ${outcome}, ${why.replace(/\s+/g, ' ')}, ${seconds.toFixed(0)} s\n`;
  const file = process.env.WEIGHTCAST_LANES_FILE;
  if (file !== undefined && file !== '') appendFileSync(file, line);
  process.stdout.write(outcome === 'SKIPPED' ? `SKIPPED ${lane}: ${why}\n` : line);
}
