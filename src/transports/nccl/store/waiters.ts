import { ENTRY_OVERHEAD, type Memory } from './limits.js';
import type { WireKey } from './request.js';

/** Whoever waits: a connection, or a caller in this process. Called once, when every awaited key was written. */
export interface Waiter {
  /** Pays for what it waits for; without one the store does. */
  readonly memory?: Memory;
  wake(): void;
}

interface Wait {
  readonly missing: Set<WireKey>;
  readonly cost: number;
}

/**
 * Who waits for which keys. One wait a waiter: a second replaces the first. A key that was written once stays written for the
 * waits that were registered, also when it is deleted afterwards (contracts/tcpstore.md §4, WAIT).
 */
export class Waiters {
  readonly #waits = new Map<Waiter, Wait>();
  readonly #byKey = new Map<WireKey, Set<Waiter>>();
  readonly #budget: Memory;

  constructor(budget: Memory) {
    this.#budget = budget;
  }

  get size(): number {
    return this.#waits.size;
  }

  /** @throws MalformedRequest when the store's memory is spent */
  register(waiter: Waiter, keys: Iterable<WireKey>): void {
    this.cancel(waiter);
    const missing = new Set(keys);
    let cost = 0;
    for (const key of missing) cost += key.length + ENTRY_OVERHEAD;
    this.#memoryOf(waiter).reserve(cost);
    this.#waits.set(waiter, { missing, cost });
    for (const key of missing) {
      const waiters = this.#byKey.get(key);
      if (waiters === undefined) this.#byKey.set(key, new Set([waiter]));
      else waiters.add(waiter);
    }
  }

  /** Forgets what the waiter waits for; it will not be woken. */
  cancel(waiter: Waiter): void {
    const wait = this.#waits.get(waiter);
    if (wait === undefined) return;
    for (const key of wait.missing) this.#unlink(key, waiter);
    this.#finish(waiter, wait);
  }

  /** The key was written: wakes whom nothing else keeps waiting, first come first. */
  wakeAll(key: WireKey): void {
    for (const waiter of [...(this.#byKey.get(key) ?? [])]) this.#satisfy(key, waiter);
  }

  /** One item was queued: satisfies the longest waiting only. */
  wakeFirst(key: WireKey): void {
    const [first] = this.#byKey.get(key) ?? [];
    if (first !== undefined) this.#satisfy(key, first);
  }

  #satisfy(key: WireKey, waiter: Waiter): void {
    const wait = this.#waits.get(waiter);
    if (wait === undefined) return;
    this.#unlink(key, waiter);
    wait.missing.delete(key);
    if (wait.missing.size > 0) return;
    this.#finish(waiter, wait);
    waiter.wake();
  }

  #finish(waiter: Waiter, wait: Wait): void {
    this.#waits.delete(waiter);
    this.#memoryOf(waiter).reserve(-wait.cost);
  }

  #memoryOf(waiter: Waiter): Memory {
    return waiter.memory ?? this.#budget;
  }

  #unlink(key: WireKey, waiter: Waiter): void {
    const waiters = this.#byKey.get(key);
    waiters?.delete(waiter);
    if (waiters?.size === 0) this.#byKey.delete(key);
  }
}
