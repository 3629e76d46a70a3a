import { readFileSync } from 'node:fs';
import { processStat } from '../holder.js';

/** True while a process runs. One that has ended and that nobody has reaped yet (a container without an init) does not. */
export function isRunning(pid: number): boolean {
  return startOf(pid) !== null;
}

/**
 * Whether the process that has this number now runs: a later one, or a thread of it, may have been given the number of one that ended.
 *
 * @returns a function that says whether that same process still runs
 */
export function whileRunning(pid: number): () => boolean {
  const start = startOf(pid);
  return () => start !== null && startOf(pid) === start;
}

/** Clock ticks from boot to its start; null when it does not run. */
function startOf(pid: number): number | null {
  try {
    const stat = processStat(readFileSync(`/proc/${pid}/stat`, 'latin1'));
    return stat === null || stat.state === 'Z' || stat.state === 'X' ? null : stat.startTicks;
  } catch {
    return null;
  }
}
