/** The one deadline of a transfer: every call of it gets what is left. */

/** So long after the deadline at most: the update returns within a second of it. */
export const ANSWER_MS = 800;
/** Of the deadline at most a tenth, and at most so long, is kept for the engines that have to be restored when another one stays silent. */
const RESTORE_MS = 10_000;

/** Milliseconds, at least 1. */
export interface Clock {
  readonly left: () => number;
  /** What is left to open the update sessions. */
  readonly toStart: () => number;
  /** What engines get to answer once everything was sent: those that did must still be finished when another one stays silent. */
  readonly toAnswer: () => number;
  /** What is left to restore engines that received nothing. */
  readonly toRestore: () => number;
}

export function clockOf(totalMs: number): Clock {
  const deadline = performance.now() + totalMs;
  const until = (ms: number) => Math.max(1, ms - performance.now());
  const left = () => until(deadline);
  const toStart = () => until(deadline - Math.min(RESTORE_MS, totalMs / 10));
  return {
    left,
    toStart,
    toAnswer: () => Math.max(toStart(), left() / 2),
    toRestore: () => Math.min(RESTORE_MS, until(deadline + ANSWER_MS)),
  };
}
