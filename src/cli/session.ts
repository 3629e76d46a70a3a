/** What the commands need of the update, so that tests can pass their own. */
import type { FleetOptions, UpdateOptions, UpdateReport } from '../update/types.js';

export interface Session {
  update(weights: string, options: UpdateOptions): Promise<UpdateReport>;
  close(): Promise<void>;
}

export type Connect = (options: FleetOptions) => Promise<Session>;

/** Waits for `connect`, but not longer than until `signal` aborts; a session that comes later is closed. */
export async function connectOrAbort<S extends Pick<Session, 'close'>>(
  connect: (options: FleetOptions) => Promise<S>,
  options: FleetOptions,
  signal: AbortSignal,
): Promise<S> {
  signal.throwIfAborted();
  const connecting = connect(options);
  let onAbort = () => {};
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([connecting, aborted]);
  } catch (error) {
    if (signal.aborted) connecting.then((session) => session.close()).catch(() => {});
    throw error;
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** Closes; what fails then is told, but changes nothing: the update has ended and its report is out. */
export async function closeSession(
  session: Pick<Session, 'close'>,
  say: (text: string) => void,
): Promise<void> {
  try {
    await session.close();
  } catch (error) {
    say(`closing the session failed: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** What fails after an interruption fails because of it: a Ctrl-C reaches every process of the terminal. */
export async function orInterrupted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  try {
    return await work;
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
}
