/** Questions without effects, of every backend. */
import type { Exchange, Reply } from './admin.js';
import { isRecord } from './is-record.js';

/** A GET within the deadline of a probe. */
export function question<T>(operation: string, path: string, read: (reply: Reply) => T): Exchange<T> {
  return { operation, method: 'GET', path, query: {}, body: null, retryable: true, budget: 'probe', read };
}

/** The paths of an OpenAPI document; null when the server does not give one, which operators may choose. */
export function listedRoutes({ status, json }: Reply): ReadonlySet<string> | null {
  const paths = status === 200 && isRecord(json) ? json.paths : undefined;
  return isRecord(paths) ? new Set(Object.keys(paths)) : null;
}
