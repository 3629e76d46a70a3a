/** What the logic of every peer is given, and how its pushes end. */

/** One engine server, as a peer's configuration names it. */
export interface PeerEngine {
  readonly url: string;
  readonly workers: number;
}

/** Seconds, as the peers' sources have them, to milliseconds here: waits and timeouts keep their ratios, down to a shortest timeout. */
export interface Pace {
  readonly msPerSecond: number;
  /** No timeout is shorter: a busy machine must not fail anybody. */
  readonly shortestMs: number;
}

export class Clock {
  readonly #pace: Pace;

  constructor(pace: Pace) {
    this.#pace = pace;
  }

  wait(seconds: number): number {
    return seconds * this.#pace.msPerSecond;
  }

  timeout(seconds: number): number {
    return Math.max(this.#pace.shortestMs, this.wait(seconds));
  }
}

export interface PeerPush {
  readonly engines: readonly PeerEngine[];
  /** Directory whose tensors the trainer holds in its memory. */
  readonly checkpoint: string;
  /** A packed chunk closes when it is larger than this. */
  readonly packedBufferBytes: number;
  readonly clock: Clock;
  /** The end of the peer's processes (kill -9, or an operator who gives up): no call leaves after it, and the communicator is gone. */
  readonly signal: AbortSignal;
}

/**
 * One push from a fresh start of the peer's processes to its end. Rejects with what the peer's process would die of; then the process, its connections and its
 * communicator are gone, as they are when a process exits.
 */
export type PeerLogic = (push: PeerPush) => Promise<void>;

/** An error of a peer that has to do with one engine, whose URL its text has. */
export class PeerError extends Error {
  readonly url: string;

  constructor(url: string, message: string, options?: ErrorOptions) {
    super(`${message} (${url})`, options);
    this.url = url;
  }
}

/** An answer with an error status: httpx's HTTPStatusError, requests' HTTPError. */
export class StatusError extends PeerError {
  readonly status: number;

  constructor(url: string, path: string, status: number) {
    super(url, `${path.split('?')[0]} answered ${status}`);
    this.status = status;
  }
}

/** No answer: timeouts, refused and reset connections, answers that are cut off. */
export class TransportError extends PeerError {}

/** The engines that an error names. */
export function namedIn(error: unknown): string[] {
  if (error instanceof AggregateError) return [...new Set(error.errors.flatMap(namedIn))];
  return error instanceof PeerError ? [error.url] : [];
}

/** Runs work that must end with the peer's processes: rejects as soon as the signal is aborted. */
export function untilKilled<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const killed = (): void => reject(new Error('killed', { cause: signal.reason }));
    if (signal.aborted) killed();
    signal.addEventListener('abort', killed, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', killed));
  });
}
