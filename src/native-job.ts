/** Jobs of the addon that a signal ends. */
import { asWeightcastError, type ErrorCode, type ErrorDetails } from './errors.js';
import type { NativeJob } from './native.js';

/**
 * Starts a job and waits for its end; when the signal aborts it is cancelled.
 *
 * @param code of an error that the addon does not name
 * @throws WeightcastError what the job says; the signal's reason
 */
export async function jobResult<T>(
  start: () => NativeJob<T>,
  signal: AbortSignal | null,
  code: ErrorCode,
  context: ErrorDetails = {},
): Promise<T> {
  signal?.throwIfAborted();
  const job = start();
  const cancel = () => job.cancel();
  signal?.addEventListener('abort', cancel, { once: true });
  try {
    return await job.result;
  } catch (error) {
    signal?.throwIfAborted();
    throw asWeightcastError(error, code, context);
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
}

const DIGEST_BYTES = 32;

/** Entry `index` of SHA-256 digests, 32 bytes each: hexadecimal. */
export function digestAt(digests: Uint8Array, index: number): string {
  return Buffer.from(digests.buffer, digests.byteOffset + DIGEST_BYTES * index, DIGEST_BYTES).toString('hex');
}
