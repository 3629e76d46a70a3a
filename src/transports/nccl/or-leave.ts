import { onAbort } from '../../engines/on-abort.js';

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
