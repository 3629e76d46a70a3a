/** A client with a short back-off, and a call to send with it. */
import { expect } from 'vitest';
import type { Exchange, Reply } from '../../src/engines/admin.js';
import { createHttpClient, type HttpClient, type HttpClientOptions } from '../../src/engines/http.js';
import { failure } from '../../src/engines/vllm-native/errors.js';
import { type ErrorCode, WeightcastError } from '../../src/errors.js';

/** Back-off that no test notices. */
export const QUICK = { minDelayMs: 1, maxDelayMs: 2 };

export async function withClient(
  options: HttpClientOptions,
  use: (http: HttpClient) => Promise<void>,
): Promise<void> {
  await using http = createHttpClient({ retry: QUICK, ...options });
  await use(http);
}

export function call(changes: Partial<Exchange<Reply>> = {}): Exchange<Reply> {
  const operation = changes.operation ?? 'pause';
  return {
    operation,
    method: 'POST',
    path: '/pause',
    query: {},
    body: null,
    retryable: true,
    budget: 'pause',
    read: (reply) => {
      if (reply.status !== 200) throw failure(reply, { engine: 'e', operation, route: 'admin' });
      return reply;
    },
    ...changes,
  };
}

export async function errorOf(promise: Promise<unknown>): Promise<WeightcastError> {
  const error: unknown = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(WeightcastError);
  return error as WeightcastError;
}

export async function expectCode(promise: Promise<unknown>, code: ErrorCode): Promise<WeightcastError> {
  const error = await errorOf(promise);
  expect(error.code, error.message).toBe(code);
  return error;
}
