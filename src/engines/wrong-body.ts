import { WeightcastError } from '../errors.js';
import type { Reply } from './admin.js';

/** The error for a success whose body is not what this call gives. */
export function wrongBody(
  reply: Reply,
  call: { readonly engine: string; readonly operation: string },
  expected: string,
): WeightcastError {
  const seen = reply.text.slice(0, 200);
  return new WeightcastError(
    'WC_ENGINE_PROTOCOL',
    `${call.operation}: expected ${expected}, got ${seen === '' ? 'an empty body' : JSON.stringify(seen)}`,
    { engine: call.engine, details: { operation: call.operation, status: reply.status } },
  );
}
