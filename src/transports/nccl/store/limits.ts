import { MalformedRequest } from './protocol.js';

/** What one store accepts before it closes a connection. The first three are those of torch's libuv server. */
export interface StoreLimits {
  /** bytes of a key, its '/' included */
  readonly keyBytes: number;
  /** keys in one request */
  readonly keysPerRequest: number;
  /** bytes of a value */
  readonly valueBytes: number;
  /** bytes of one whole request, and of one whole reply */
  readonly messageBytes: number;
  /** bytes of everything held: entries, half-received requests, registered waits, unsent replies */
  readonly memoryBytes: number;
  readonly connections: number;
  /** Time in ms within which a new connection must have sent its preamble. */
  readonly preambleTimeoutMs: number;
}

const MiB = 1024 * 1024;

export const DEFAULT_LIMITS: StoreLimits = {
  keyBytes: 8192,
  keysPerRequest: 131_072,
  valueBytes: 8 * MiB,
  messageBytes: 64 * MiB,
  memoryBytes: 512 * MiB,
  connections: 4096,
  preambleTimeoutMs: 10_000,
};

/** What an entry costs beside its own bytes: map slot, string header, array buffer. */
export const ENTRY_OVERHEAD = 256;

/** Memory that all connections of a store share. */
export class MemoryBudget {
  #used = 0;
  readonly #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get used(): number {
    return this.#used;
  }

  /** Takes `bytes` (gives them back when negative). @throws MalformedRequest beyond the limit; then nothing was taken. */
  reserve(bytes: number): void {
    if (bytes > 0 && this.#used + bytes > this.#limit) {
      throw new MalformedRequest(`the store's memory limit of ${this.#limit} bytes is reached`);
    }
    this.#used += bytes;
  }

  release(bytes: number): void {
    this.#used -= bytes;
  }
}
