/** Who is being waited for. */
export interface Greeter {
  /** Cuts the client off. */
  refuse(reason: string): void;
}

/** Connections whose preamble has not come. One timer serves all of them: a thousand workers connect in one instant. */
export class Greetings {
  readonly #timeoutMs: number;
  /** When each connected, in ms of performance.now(); oldest first. */
  readonly #awaited = new Map<Greeter, number>();
  #timer: NodeJS.Timeout | null = null;

  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
  }

  /** Refuses the connection unless it is taken off in time. */
  expect(connection: Greeter): void {
    this.#awaited.set(connection, performance.now());
    if (this.#timer === null) this.#look(this.#timeoutMs);
  }

  /** It has greeted, or is gone. */
  delete(connection: Greeter): void {
    this.#awaited.delete(connection);
    if (this.#awaited.size > 0 || this.#timer === null) return;
    clearTimeout(this.#timer);
    this.#timer = null;
  }

  #look(inMs: number): void {
    this.#timer = setTimeout(() => this.#refuseLate(), inMs).unref();
  }

  #refuseLate(): void {
    this.#timer = null;
    const now = performance.now();
    for (const [connection, since] of this.#awaited) {
      const leftMs = since + this.#timeoutMs - now;
      if (leftMs > 0) {
        this.#look(leftMs);
        return;
      }
      this.#awaited.delete(connection);
      connection.refuse(`no preamble for ${this.#timeoutMs} ms`);
    }
  }
}
