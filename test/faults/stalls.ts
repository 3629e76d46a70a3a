/** How long this process itself stood still: what a busy machine takes from it is nobody's lateness. */
const TICK_MS = 10;

export class Stalls {
  readonly #timer: NodeJS.Timeout;
  #last = performance.now();
  #total = 0;

  constructor() {
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    this.#timer.unref();
  }

  /** Milliseconds in all since the start. */
  get totalMs(): number {
    this.#tick();
    return this.#total;
  }

  #tick(): void {
    const now = performance.now();
    this.#total += Math.max(0, now - this.#last - TICK_MS);
    this.#last = now;
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
