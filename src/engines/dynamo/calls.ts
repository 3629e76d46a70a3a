/** One call of a worker as an exchange: `POST /engine/<route>` on its system port, or a plain path there or on the frontend. */
import type { Budget, Exchange } from '../admin.js';
import type { FailedCall } from './errors.js';
import type { Reader } from './read.js';

export interface Call<T> {
  readonly operation: string;
  readonly read: Reader<T>;
  readonly budget: Budget;
  readonly body?: object;
  /** Only for a call that may safely be sent twice. */
  readonly retryable?: boolean;
  readonly at?: Exchange<T>['at'];
  readonly ifDropped?: string;
  /** What to do when the route is missing. */
  readonly ifMissing?: string;
}

export interface Calls {
  get<T>(path: string, call: Call<T>): Exchange<T>;
  post<T>(path: string, call: Call<T>): Exchange<T>;
  delete<T>(path: string, call: Call<T>): Exchange<T>;
  /** `POST /engine/<route>`; the route as it is listed. Without a body, `{}` is sent. */
  engine<T>(route: string, call: Call<T>): Exchange<T>;
}

/** @param engine for errors */
export function callsOf(engine: string): Calls {
  const exchange = <T>(method: Exchange<T>['method'], path: string, call: Call<T>): Exchange<T> => {
    const failed: FailedCall = { engine, operation: call.operation, ifMissing: call.ifMissing };
    return {
      operation: call.operation,
      method,
      path,
      query: {},
      body: call.body ?? null,
      retryable: call.retryable ?? false,
      budget: call.budget,
      ...(call.at === undefined ? {} : { at: call.at }),
      ...(call.ifDropped === undefined ? {} : { ifDropped: call.ifDropped }),
      read: (reply) => call.read(reply, failed),
    };
  };
  return {
    get: (path, call) => exchange('GET', path, { retryable: true, ...call }),
    post: (path, call) => exchange('POST', path, call),
    delete: (path, call) => exchange('DELETE', path, call),
    engine: (route, call) => exchange('POST', `/engine/${route}`, { body: {}, ...call }),
  };
}
