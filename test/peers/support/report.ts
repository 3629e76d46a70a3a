import { appendFileSync } from 'node:fs';

/** Appends lane, RAN|SKIPPED|FAILED, why and seconds, with tabs between, to the file named by WEIGHTCAST_LANES_FILE, which `.ci/run` prints at its end. */
export function reportLane(
  lane: string,
  outcome: 'RAN' | 'FAILED' | 'SKIPPED',
  why: string,
  seconds: number,
): void {
  const reason = why.replace(/\s+/g, ' ').trim();
  const line = [lane, outcome, reason, seconds.toFixed(0)].join('\t');
  const file = process.env.WEIGHTCAST_LANES_FILE;
  if (file !== undefined && file !== '') appendFileSync(file, `${line}\n`);
  process.stdout.write(`${outcome} ${lane}: ${reason}\n`);
}
