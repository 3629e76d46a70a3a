/** Jobs of the addon that a signal ends. */
import { asWeightcastError } from '../../../errors.js';
import type { NativeJob } from '../../../native.js';

/** @throws WeightcastError what the job says; the signal's reason */
export async function finished<T>(
  start: () => Pick<NativeJob<T>, 'result' | 'cancel'>,
  signal: AbortSignal | null,
): Promise<T> {
  signal?.throwIfAborted();
  const job = start();
  const cancel = () => job.cancel();
  signal?.addEventListener('abort', cancel, { once: true });
  try {
    return await job.result;
  } catch (error) {
    signal?.throwIfAborted();
    throw asWeightcastError(error, 'WC_FILE_WRITE');
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
}

/** Entry `index` of 32-byte digests, hexadecimal. */
export function digestAt(digests: Uint8Array, index: number): string {
  return Buffer.from(digests.buffer, digests.byteOffset + 32 * index, 32).toString('hex');
}
