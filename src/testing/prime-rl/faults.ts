/** What can be made to go wrong at the routes of a reference prime-rl server. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Dispatch } from '../server/dispatch.js';
import { failure } from '../server/replies.js';

export interface PrimeRlRouteFault {
  /** Milliseconds before the call is applied; a client that has gone by then changes nothing. */
  readonly delayMs?: number;
  /** Answers this instead. */
  readonly status?: number;
  /** With `status`: does what was asked before it answers so. Default false. */
  readonly applies?: boolean;
  /** Calls that it strikes; default all. */
  readonly times?: number;
}

/** By path: '/pause', '/update_weights' … */
export type PrimeRlFaults = Readonly<Record<string, PrimeRlRouteFault>>;

export class RouteFaults {
  #faults: PrimeRlFaults;
  readonly #struck = new Map<string, number>();

  constructor(faults: PrimeRlFaults) {
    this.#faults = faults;
  }

  replace(faults: PrimeRlFaults): void {
    this.#faults = faults;
    this.#struck.clear();
  }

  wrap(dispatch: Dispatch): Dispatch {
    return async (request, signal) => {
      const fault = Object.hasOwn(this.#faults, request.path) ? this.#faults[request.path] : undefined;
      const struck = this.#struck.get(request.path) ?? 0;
      if (fault === undefined || struck >= (fault.times ?? Number.POSITIVE_INFINITY)) {
        return dispatch(request, signal);
      }
      this.#struck.set(request.path, struck + 1);
      if (fault.delayMs !== undefined) await sleep(fault.delayMs);
      const { status } = fault;
      if (status === undefined) return dispatch(request, signal);
      if (fault.applies === true) await dispatch(request, signal);
      return failure(status, 'InternalServerError', 'injected fault');
    };
  }
}
