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
  /** keys, and queued items */
  readonly entries: number;
  /** bytes of everything held for clients: entries, half-received requests, registered waits, unsent replies; see {@link Account} */
  readonly memoryBytes: number;
  /** Beyond it the oldest connection that has not joined makes room for a new one. */
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
  entries: 1_048_576,
  memoryBytes: 512 * MiB,
  connections: 4096,
  preambleTimeoutMs: 10_000,
};

/**
 * What workers need to meet, with two orders of magnitude to spare: a pickle of 247 bytes and a few keys each. No request within these
 * limits takes more than some milliseconds of the process that also runs the trainer.
 */
export const RENDEZVOUS_LIMITS: StoreLimits = {
  ...DEFAULT_LIMITS,
  keysPerRequest: 1024,
  valueBytes: 64 * 1024,
  messageBytes: MiB,
  entries: 16_384,
  memoryBytes: 64 * MiB,
};

/** What an entry costs beside its own bytes: map slot, string header, array buffer. */
export const ENTRY_OVERHEAD = 256;

/** Whatever memory is taken from, and given back to with a negative number. */
export interface Memory {
  /** @throws MalformedRequest beyond the limit; then nothing was taken */
  reserve(bytes: number): void;
}

/** Memory that all connections of a store share. */
export class MemoryBudget implements Memory {
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

  /** For what this process itself stores, which clients must not be able to prevent. */
  take(bytes: number): void {
    this.#used += bytes;
  }
}

/** Bytes that a connection may hold whatever the others hold: enough to greet, join, wait and read the unique id. */
const FREE_BYTES = 4096;

/**
 * What one connection holds: its first 4 KiB are its own, so that a worker gets through while hostile clients hold all the rest.
 */
export class Account implements Memory {
  #held = 0;
  readonly #budget: MemoryBudget;

  constructor(budget: MemoryBudget) {
    this.#budget = budget;
  }

  reserve(bytes: number): void {
    const held = this.#held + bytes;
    this.#budget.reserve(Math.max(0, held - FREE_BYTES) - Math.max(0, this.#held - FREE_BYTES));
    this.#held = held;
  }
}
