import { ENTRY_OVERHEAD, type MemoryBudget, type StoreLimits } from './limits.js';
import { MalformedRequest } from './protocol.js';
import type { WireKey } from './request.js';

/** What a store holds: values, and queues in a name space of their own. Every byte is taken from the budget first. */
export class Contents {
  readonly #values = new Map<WireKey, Uint8Array>();
  readonly #queues = new Map<WireKey, Uint8Array[]>();
  readonly #limits: StoreLimits;
  readonly #budget: MemoryBudget;
  #queued = 0;

  constructor(limits: StoreLimits, budget: MemoryBudget) {
    this.#limits = limits;
    this.#budget = budget;
  }

  /** Number of keys, queues not counted. */
  get size(): number {
    return this.#values.size;
  }

  keys(): Iterable<WireKey> {
    return this.#values.keys();
  }

  get(key: WireKey): Uint8Array | undefined {
    return this.#values.get(key);
  }

  /** True for a key that is set and for a queue that is not empty. */
  has(key: WireKey): boolean {
    return this.#values.has(key) || this.queueLength(key) > 0;
  }

  /** @throws MalformedRequest when the store's memory or its number of entries is spent */
  set(key: WireKey, value: Uint8Array): void {
    const old = this.#values.get(key);
    if (old === undefined) this.#expectRoom();
    this.#budget.reserve(entryCost(key, value) - (old === undefined ? 0 : entryCost(key, old)));
    this.#values.set(key, value);
  }

  /** Sets for this process itself, whatever clients hold. */
  setAlways(key: WireKey, value: Uint8Array): void {
    this.delete(key);
    this.#budget.take(entryCost(key, value));
    this.#values.set(key, value);
  }

  delete(key: WireKey): boolean {
    const old = this.#values.get(key);
    if (old !== undefined) this.#budget.release(entryCost(key, old));
    return this.#values.delete(key);
  }

  /** @throws MalformedRequest when the store's memory or its number of entries is spent */
  push(key: WireKey, value: Uint8Array): void {
    this.#expectRoom();
    this.#budget.reserve(entryCost(key, value));
    this.#queued++;
    const queue = this.#queues.get(key);
    if (queue === undefined) this.#queues.set(key, [value]);
    else queue.push(value);
  }

  pop(key: WireKey): Uint8Array | undefined {
    const queue = this.#queues.get(key);
    const value = queue?.shift();
    if (value !== undefined) {
      this.#queued--;
      this.#budget.release(entryCost(key, value));
    }
    if (queue?.length === 0) this.#queues.delete(key);
    return value;
  }

  queueLength(key: WireKey): number {
    return this.#queues.get(key)?.length ?? 0;
  }

  #expectRoom(): void {
    if (this.#values.size + this.#queued < this.#limits.entries) return;
    throw new MalformedRequest(`the store's limit of ${this.#limits.entries} entries is reached`);
  }
}

/** Longest value of a counter: room for it is paid at once, so that a full store still counts. */
const COUNTER_BYTES = 24;

const entryCost = (key: WireKey, value: Uint8Array): number =>
  key.length + Math.max(value.length, COUNTER_BYTES) + ENTRY_OVERHEAD;
