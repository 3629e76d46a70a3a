import { Contents } from './contents.js';
import { addCounter } from './counter.js';
import { MemoryBudget, type StoreLimits } from './limits.js';
import { JOIN_KEY, MalformedRequest, NOT_READY, READY, STOP_WAITING, WAIT_CANCELED } from './protocol.js';
import { byteReply, bytesReply, integerReply, NO_REPLY, nonceReply, type Reply } from './reply.js';
import { encodeLength, type StoreRequest, type WireKey } from './request.js';
import { type Waiter, Waiters } from './waiters.js';

/** A client of the state: where its replies go. `wake()` is the late answer to WAIT and BARRIER. */
export interface Peer extends Waiter {
  reply(reply: Reply): void;
}

/** What a request leads to once its effect is done: the reply first, the wake-ups of others after it. */
interface Outcome {
  readonly reply: Reply;
  /** Keys whose waiters are all satisfied. */
  readonly written: readonly WireKey[];
  /** Queue whose first waiter is satisfied. */
  readonly queued: WireKey | null;
}

const EMPTY = new Uint8Array(0);

const replying = (reply: Reply): Outcome => ({ reply, written: [], queued: null });
const writing = (written: readonly WireKey[], reply: Reply = NO_REPLY): Outcome => ({
  reply,
  written,
  queued: null,
});

/**
 * The store itself, without sockets: each request's effect, reply and wake-ups as real servers do them
 * (contracts/tcpstore.md §4). Where torch's two servers differ: a missing value reads as empty, and compare-and-set wakes
 * exactly when it creates the key.
 */
export class StoreState {
  readonly budget: MemoryBudget;
  readonly waiters: Waiters;
  readonly contents: Contents;
  readonly #limits: StoreLimits;
  readonly #reserved: WireKey | null;

  /** Keys that begin with `reservedPrefix` are written by this process only; then `init/` is only counted up. */
  constructor(limits: StoreLimits, reservedPrefix: WireKey | null = null) {
    this.#limits = limits;
    this.#reserved = reservedPrefix;
    this.budget = new MemoryBudget(limits.memoryBytes);
    this.waiters = new Waiters(this.budget);
    this.contents = new Contents(limits, this.budget);
  }

  /** By this process itself: no client can fill the store up before. */
  set(key: WireKey, value: Uint8Array): void {
    this.contents.setAlways(key, value);
    this.waiters.wakeAll(key);
  }

  add(key: WireKey, delta: bigint): bigint {
    const { count, stored } = addCounter(this.contents.get(key), delta);
    this.set(key, stored);
    return count;
  }

  /** Wakes the waiter at once, or when every key has been written. Replaces what it waited for before. */
  wait(waiter: Waiter, keys: readonly WireKey[]): void {
    this.waiters.cancel(waiter);
    const missing = keys.filter((key) => !this.contents.has(key));
    if (missing.length === 0) waiter.wake();
    else this.waiters.register(waiter, missing);
  }

  /** @throws MalformedRequest; the peer must be closed */
  apply(peer: Peer, request: StoreRequest): void {
    this.#refuseReserved(request);
    const { reply, written, queued } = this.#execute(peer, request);
    try {
      peer.reply(reply);
    } finally {
      // What is written is written, also when its writer is cut off because there is no memory for the reply.
      for (const key of written) this.waiters.wakeAll(key);
      if (queued !== null) this.waiters.wakeFirst(queued);
    }
  }

  #execute(peer: Peer, request: StoreRequest): Outcome {
    switch (request.kind) {
      case 'ping':
        return replying(nonceReply(request.nonce));
      case 'set':
        this.contents.set(request.key, request.value);
        return writing([request.key]);
      case 'multiSet':
        // Each is seen at once: were the memory spent halfway, those set before it would have woken nobody.
        for (const { key, value } of request.entries) {
          this.contents.set(key, value);
          this.waiters.wakeAll(key);
        }
        return replying(NO_REPLY);
      case 'append':
        this.contents.set(request.key, this.#appended(request.key, request.value));
        return writing([request.key]);
      case 'add':
        return writing([request.key], integerReply(this.#count(request.key, request.delta)));
      case 'compareSet':
        return this.#compareSet(request);
      case 'get':
        return replying(bytesReply(this.contents.get(request.key) ?? EMPTY));
      case 'multiGet':
        return replying(this.#joined(request.keys.map((key) => this.contents.get(key) ?? EMPTY)));
      case 'check':
        return replying(byteReply(request.keys.every((key) => this.contents.has(key)) ? READY : NOT_READY));
      case 'wait':
        this.wait(peer, request.keys);
        return replying(NO_REPLY);
      case 'cancelWait':
        this.waiters.cancel(peer);
        return replying(byteReply(WAIT_CANCELED));
      case 'barrier':
        return this.#barrier(peer, request.key, request.worldSize);
      case 'numKeys':
        return replying(integerReply(BigInt(this.contents.size)));
      case 'listKeys': {
        return replying([encodeLength(this.contents.size), ...this.#joinedKeys()]);
      }
      case 'deleteKey':
        return replying(integerReply(this.contents.delete(request.key) ? 1n : 0n));
      case 'queuePush':
        this.contents.push(request.key, request.value);
        return { reply: NO_REPLY, written: [], queued: request.key };
      case 'queuePop':
        return replying(this.#pop(request.key));
      case 'queueLength':
        return replying(integerReply(BigInt(this.contents.queueLength(request.key))));
    }
  }

  #count(key: WireKey, delta: bigint): bigint {
    const { count, stored } = addCounter(this.contents.get(key), delta);
    this.contents.set(key, stored);
    return count;
  }

  #appended(key: WireKey, value: Uint8Array): Uint8Array {
    const old = this.contents.get(key) ?? EMPTY;
    const length = old.length + value.length;
    if (length > this.#limits.valueBytes) throw new MalformedRequest('the value grew beyond the limit');
    const whole = new Uint8Array(length);
    whole.set(old);
    whole.set(value, old.length);
    return whole;
  }

  #compareSet({ key, expected, desired }: StoreRequest & { readonly kind: 'compareSet' }): Outcome {
    const current = this.contents.get(key);
    if (current === undefined) {
      if (expected.length > 0) return replying(bytesReply(expected)); // as real servers do: the key stays missing
      this.contents.set(key, desired);
      return writing([key], bytesReply(desired));
    }
    if (Buffer.compare(current, expected) !== 0) return replying(bytesReply(current));
    this.contents.set(key, desired);
    return replying(bytesReply(desired));
  }

  /** The counter under the key is never reset: who comes after the barrier fell passes at once, as in torch. */
  #barrier(peer: Peer, key: WireKey, worldSize: bigint): Outcome {
    const arrived = this.#count(key, 1n);
    this.waiters.cancel(peer);
    if (arrived >= worldSize) return writing([key], byteReply(STOP_WAITING));
    this.waiters.register(peer, [key]);
    return replying(NO_REPLY);
  }

  #pop(key: WireKey): Reply {
    const length = integerReply(BigInt(this.contents.queueLength(key)));
    const value = this.contents.pop(key);
    return value === undefined ? length : [...length, ...bytesReply(value)];
  }

  #joined(values: readonly Uint8Array[]): Reply {
    const length = values.reduce((sum, value) => sum + value.length + 8, 0);
    this.#expectShort(length);
    return length === 0 ? NO_REPLY : [Buffer.concat(values.flatMap(bytesReply))];
  }

  #joinedKeys(): Reply {
    let length = 0;
    for (const key of this.contents.keys()) length += key.length + 8;
    this.#expectShort(length);
    const bytes = Buffer.alloc(length);
    let at = 0;
    for (const key of this.contents.keys()) {
      bytes.writeUInt32LE(key.length, at); // u64; no key has 4 GiB
      at += 8 + bytes.write(key, at + 8, 'latin1');
    }
    return length === 0 ? NO_REPLY : [bytes];
  }

  #expectShort(replyLength: number): void {
    if (replyLength > this.#limits.messageBytes) {
      throw new MalformedRequest(
        `a reply of ${replyLength} bytes exceeds the limit of ${this.#limits.messageBytes}`,
      );
    }
  }

  #refuseReserved(request: StoreRequest): void {
    const prefix = this.#reserved;
    if (prefix === null) return;
    for (const key of writtenKeys(request)) {
      if (key.startsWith(prefix)) throw new MalformedRequest('the key is written by the store alone');
      if (key === JOIN_KEY && request.kind !== 'add') throw new MalformedRequest('the key is only added to');
    }
  }
}

/** Keys that the request would write, create or delete. */
function writtenKeys(request: StoreRequest): readonly WireKey[] {
  switch (request.kind) {
    case 'set':
    case 'append':
    case 'queuePush':
    case 'queuePop':
    case 'compareSet':
    case 'add':
    case 'barrier':
    case 'deleteKey':
      return [request.key];
    case 'multiSet':
      return request.entries.map(({ key }) => key);
    default:
      return [];
  }
}
