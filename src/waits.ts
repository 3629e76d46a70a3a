/** Waits that end although what is waited for does not: nothing can end a call of a driver or of a file system that hangs. */
import { onAbort } from './engines/on-abort.js';

/**
 * Waits for a call of the addon, but not beyond the signal. Each call has a limit of its own, which is up to a minute: one that hangs is left behind.
 *
 * @param late gets what the call brings when nobody waits for it any more
 * @throws what the call does, and the signal's reason
 */
export async function orLeave<T>(
  call: Promise<T>,
  signal: AbortSignal | undefined,
  late: (value: T) => unknown = () => {},
): Promise<T> {
  if (signal === undefined) return call;
  let release = () => {};
  const aborted = new Promise<never>((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    else release = onAbort(signal, () => reject(signal.reason));
  });
  try {
    return await Promise.race([call, aborted]);
  } catch (error) {
    if (signal.aborted) call.then(late).catch(() => {});
    throw error;
  } finally {
    release();
  }
}

/** A file system that takes longer for one thing hangs. */
export const STALL_MS = 15_000;

/** @throws what `late` makes when `work` has not ended after so many milliseconds; it goes on */
export async function unlessStalled<T>(
  work: Promise<T>,
  late: (why: string) => Error,
  stallMs: number = STALL_MS,
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const stalled = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late(`no answer within ${stallMs} ms`)), stallMs);
  });
  try {
    return await Promise.race([work, stalled]);
  } finally {
    clearTimeout(timer);
  }
}
