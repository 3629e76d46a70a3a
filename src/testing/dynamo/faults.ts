/** What can be made to go wrong in a reference Dynamo worker, beside what goes wrong in its vLLM. */

/** Strikes a route of the system port. */
export interface RouteFault {
  /** Milliseconds before it is applied. It is applied also when the caller has gone: a client's timeout cancels nothing. */
  readonly delayMs?: number;
  /** Nothing is applied: the handler answers `{"status":"error"}` with 200. */
  readonly refuse?: string;
  /** Nothing is applied: the handler raises, which is a 500. */
  readonly raise?: string;
  /** It is applied, and the answer is this. */
  readonly answer?: { readonly status: number; readonly body: unknown };
  /** It is applied, and the connection drops without an answer. */
  readonly drop?: boolean;
  /** Only calls whose body contains this: 'start_weight_update', 'model_path'. */
  readonly matching?: string;
  /** So many calls; default: all. */
  readonly times?: number;
}

export interface DynamoFaults {
  /** By the route as it is listed: 'pause_generation'. */
  readonly routes?: Readonly<Record<string, RouteFault>>;
}

/** Strikes as long as `times` says. */
export class RouteFaults {
  #faults: DynamoFaults;
  readonly #struck = new Map<string, number>();

  constructor(faults: DynamoFaults) {
    this.#faults = faults;
  }

  replace(faults: DynamoFaults): void {
    this.#faults = faults;
    this.#struck.clear();
  }

  next(route: string, body: string): RouteFault | null {
    const fault = this.#faults.routes?.[route];
    if (fault === undefined || !body.includes(fault.matching ?? '')) return null;
    const struck = this.#struck.get(route) ?? 0;
    if (struck >= (fault.times ?? Number.POSITIVE_INFINITY)) return null;
    this.#struck.set(route, struck + 1);
    return fault;
  }
}
