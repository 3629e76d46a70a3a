import { setImmediate as nextTurn } from 'node:timers/promises';

/** Longest stretch of work in one turn of the event loop, in ms. */
const SLICE_MS = 4;

/** When the share of this turn is used up; null before anything has run in it. */
let endsAt: number | null = null;

/** All that runs in slices shares the event loop's turn: several short works, one after the other or side by side, would make a long one. */
function endOfShare(): number {
  if (endsAt === null) {
    endsAt = performance.now() + SLICE_MS;
    setImmediate(() => {
      endsAt = null;
    });
  }
  return endsAt;
}

/** Work that yields where the event loop may be let in, and returns a value. */
export type Steps<T> = Generator<void, T, void>;

/**
 * Runs a generator to its end in slices of a few milliseconds, so that long parsing does not stall the event loop.
 * Throws what the generator throws, or the signal's reason.
 */
export async function runInSlices<T>(steps: Steps<T>, signal: AbortSignal | null): Promise<T> {
  for (;;) {
    signal?.throwIfAborted();
    const until = endOfShare();
    do {
      const step = steps.next();
      if (step.done === true) return step.value;
    } while (performance.now() < until);
    await nextTurn();
  }
}

/** Runs it at once, for a caller that has the time. */
export function runToEnd<T>(steps: Steps<T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}
