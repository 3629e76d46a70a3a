import { WeightcastError } from '../../../errors.js';
import { wireKey } from './request.js';
import type { StoreState } from './state.js';

interface WaitOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Settles when the store closes. */
  readonly closed: Promise<void>;
}

/** Waits in the server's own process until every key has been written. */
export function waitInProcess(
  state: StoreState,
  keys: readonly string[],
  { timeoutMs, signal, closed }: WaitOptions,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const finish = (settle: () => void): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      state.waiters.cancel(waiter);
      settle();
    };
    const fail = (
      code: 'WC_RENDEZVOUS_TIMEOUT' | 'WC_RENDEZVOUS_ABORTED',
      why: string,
      cause?: unknown,
    ): void =>
      finish(() => {
        const message = `${why} while waiting for ${keys.join(', ')}`;
        reject(new WeightcastError(code, message, { phase: 'rendezvous', cause }));
      });
    const onAbort = (): void => fail('WC_RENDEZVOUS_ABORTED', 'aborted', signal?.reason);
    const waiter = { wake: (): void => finish(resolve) };
    const timer = setTimeout(() => fail('WC_RENDEZVOUS_TIMEOUT', `nothing for ${timeoutMs} ms`), timeoutMs);
    if (signal?.aborted) return onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });
    void closed.then(() => fail('WC_RENDEZVOUS_ABORTED', 'the store closed'));
    state.wait(waiter, keys.map(wireKey));
  });
}
