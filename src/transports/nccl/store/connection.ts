import type { Socket } from 'node:net';
import type { Greeter, Greetings } from './greetings.js';
import { Account, type StoreLimits } from './limits.js';
import { RequestParser } from './parser.js';
import { STOP_WAITING } from './protocol.js';
import { byteReply, type Reply, replyLength } from './reply.js';
import type { StoreRequest } from './request.js';
import type { Peer, StoreState } from './state.js';
import type { Task, Turns } from './turns.js';

/** Unsent bytes above which a connection's further requests wait until the client has read. */
const UNSENT_BYTES = 1024 * 1024;
/** What a queued write costs beside its bytes. */
const WRITE_OVERHEAD = 256;
/** Requests of one connection before the next in line has its turn. */
const REQUESTS_PER_STEP = 32;
const KEEP_ALIVE_MS = 30_000;
/** What a client in line may have sent before it is read no more: far above what a worker asks at once, so that its socket is neither paused nor resumed. */
const HELD_BYTES = 2048;

export interface ConnectionHooks {
  /** A request was carried out. */
  done(request: StoreRequest): void;
  /** The client is cut off for what it sent or held. */
  refused(reason: string): void;
  /** The socket is gone; called once. */
  closed(): void;
}

/** What keeps a connection from being done with what has arrived. */
type Left = 'requests' | 'unread replies' | 'nothing';

/** What all connections of a store share. */
export interface StoreParts {
  readonly state: StoreState;
  readonly turns: Turns;
  readonly greetings: Greetings;
  readonly limits: StoreLimits;
}

/** One client's socket: bytes in, requests to the state, replies out. Anything it should not have sent destroys it. */
export class StoreConnection implements Peer, Task, Greeter {
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly memory: Account;
  readonly #socket: Socket;
  readonly #state: StoreState;
  readonly #turns: Turns;
  readonly #parser: RequestParser;
  readonly #hooks: ConnectionHooks;
  readonly #greetings: Greetings;
  /** Replies of this step; they leave as one write. */
  #unsent: Uint8Array[] = [];
  #unsentBytes = 0;
  #onSent: (() => void)[] = [];
  #closed = false;
  /** It sends no more: it is closed once all that it asked is done. */
  #hasEnded = false;
  #stepping = false;

  constructor(socket: Socket, { state, turns, greetings, limits }: StoreParts, hooks: ConnectionHooks) {
    this.remoteAddress = plainAddress(socket.remoteAddress ?? '');
    this.remotePort = socket.remotePort ?? 0;
    this.memory = new Account(state.budget);
    this.#socket = socket;
    this.#state = state;
    this.#turns = turns;
    this.#parser = new RequestParser(limits, this.memory);
    this.#hooks = hooks;
    this.#greetings = greetings;
    greetings.expect(this);
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS); // a silent client is in order, a dead host is not
    socket.on('data', (chunk) => this.#receive(chunk));
    socket.on('end', () => this.#ended());
    socket.on('drain', () => this.#turns.queue(this)); // whom so much is sent to is no worker
    socket.on('error', () => {}); // 'close' follows
    socket.on('close', () => this.#close());
  }

  reply(reply: Reply): void {
    if (this.#closed || reply.length === 0) return;
    const length = replyLength(reply);
    this.memory.reserve(length);
    this.#unsent.push(...reply);
    this.#unsentBytes += length;
  }

  wake(): void {
    try {
      this.reply(byteReply(STOP_WAITING));
    } catch (error) {
      this.#fail(error); // out of memory for one byte: this waiter goes, not the client whose write woke it
    }
    // In a step of its own the client goes on by itself: a thousand waits on keys that are there must not nest.
    if (!this.#stepping) this.#turns.ask(this);
  }

  /** Calls back when everything replied so far was handed to the kernel; never when the connection breaks before. */
  flushed(callback: () => void): void {
    this.#onSent.push(callback);
  }

  /** Cuts the client off. */
  refuse(reason: string): void {
    if (this.#closed || this.#socket.destroyed) return;
    this.#socket.destroy();
    this.#hooks.refused(reason);
  }

  destroy(): void {
    this.#socket.destroy();
  }

  step(hasTime: () => boolean): boolean {
    let left: Left = 'nothing';
    this.#stepping = true;
    try {
      left = this.#work(hasTime);
      this.#send();
      if (left === 'nothing' && this.#hasEnded) this.#socket.end();
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#stepping = false;
    }
    return left === 'requests' && !this.#closed && !this.#socket.destroyed;
  }

  /** A client may write a key and leave: what has arrived is still done. */
  #ended(): void {
    this.#hasEnded = true;
    this.#turns.ask(this);
  }

  #receive(chunk: Uint8Array): void {
    try {
      this.#parser.append(chunk);
    } catch (error) {
      this.#fail(error);
    }
    // Who stands in line holds what has arrived, not what the client can send meanwhile.
    if (this.#turns.ask(this) && this.#parser.held > HELD_BYTES) this.#socket.pause();
  }

  /** Carries out what has arrived, while there is time. */
  #work(hasTime: () => boolean): Left {
    for (let done = 0; ; done++) {
      if (this.#closed || this.#socket.destroyed) return 'nothing';
      if (this.#unsentBytes + this.#socket.writableLength >= UNSENT_BYTES) {
        this.#socket.pause(); // until 'drain'
        return 'unread replies';
      }
      if (done === REQUESTS_PER_STEP || !hasTime()) return 'requests';
      const hadGreeted = this.#parser.greeted;
      const request = this.#parser.next();
      if (!hadGreeted && this.#parser.greeted) this.#greetings.delete(this);
      if (request === null) {
        if (this.#socket.isPaused()) this.#socket.resume();
        return 'nothing';
      }
      this.#state.apply(this, request);
      this.#hooks.done(request);
    }
  }

  #send(): void {
    const parts = this.#unsent;
    const callbacks = this.#onSent;
    const length = this.#unsentBytes;
    if ((parts.length === 0 && callbacks.length === 0) || this.#closed) return;
    this.memory.reserve(WRITE_OVERHEAD); // may be refused: what is unsent is then given back as the connection ends
    this.#unsent = [];
    this.#onSent = [];
    this.#unsentBytes = 0;
    const sent = (error?: Error | null): void => {
      this.memory.reserve(-length - WRITE_OVERHEAD);
      if (error === undefined || error === null) for (const callback of callbacks) callback();
    };
    const writes = parts.length === 1 ? parts : gathered(parts);
    const last = writes.pop() ?? NOTHING;
    // Corked writes leave by a slower call, and nearly every reply is one write.
    if (writes.length > 0) this.#socket.cork();
    for (const part of writes) this.#socket.write(part);
    this.#socket.write(last, sent);
    if (writes.length > 0) this.#socket.uncork();
  }

  /** Whatever it was, it concerns this client alone: the process goes on. */
  #fail(error: unknown): void {
    this.refuse(error instanceof Error ? error.message : String(error));
  }

  #close(): void {
    this.#closed = true;
    this.#greetings.delete(this);
    this.#turns.drop(this);
    this.#state.waiters.cancel(this);
    this.#parser.close();
    this.memory.reserve(-this.#unsentBytes);
    this.#unsent = [];
    this.#unsentBytes = 0;
    this.#hooks.closed();
  }
}

const NOTHING = new Uint8Array(0);

/** Below this a reply is copied to its neighbours; larger values leave as they are. */
const SMALL_BYTES = 4096;

/** The same bytes in fewer parts: each part that is written costs more than its copy. */
function gathered(parts: readonly Uint8Array[]): Uint8Array[] {
  const result: Uint8Array[] = [];
  let small: Uint8Array[] = [];
  const close = (): void => {
    if (small.length > 0) result.push(small.length === 1 ? small[0]! : Buffer.concat(small));
    small = [];
  };
  for (const part of parts) {
    if (part.length <= SMALL_BYTES) {
      small.push(part);
      continue;
    }
    close();
    result.push(part);
  }
  close();
  return result;
}

/** Undoes the IPv4-in-IPv6 form that a dual-stack listener reports. */
const plainAddress = (address: string): string => address.replace(/^::ffff:(?=\d+\.)/, '');
