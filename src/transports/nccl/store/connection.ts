import type { Socket } from 'node:net';
import type { StoreLimits } from './limits.js';
import { RequestParser } from './parser.js';
import { MalformedRequest, STOP_WAITING } from './protocol.js';
import { byteReply, type Reply, replyLength } from './reply.js';
import type { StoreRequest } from './request.js';
import type { Peer, StoreState } from './state.js';

/** Unsent bytes above which a connection's further requests wait until the client has read. */
const UNSENT_BYTES = 1024 * 1024;
const KEEP_ALIVE_MS = 30_000;

export interface ConnectionHooks {
  /** A request was carried out. */
  done(request: StoreRequest): void;
  /** The socket is gone; called once. */
  closed(): void;
}

/** One client's socket: bytes in, requests to the state, replies out. Anything it should not have sent destroys it. */
export class StoreConnection implements Peer {
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly #socket: Socket;
  readonly #state: StoreState;
  readonly #parser: RequestParser;
  readonly #hooks: ConnectionHooks;
  readonly #greeting: NodeJS.Timeout;
  #closed = false;

  constructor(socket: Socket, state: StoreState, limits: StoreLimits, hooks: ConnectionHooks) {
    this.remoteAddress = plainAddress(socket.remoteAddress ?? '');
    this.remotePort = socket.remotePort ?? 0;
    this.#socket = socket;
    this.#state = state;
    this.#parser = new RequestParser(limits, state.budget);
    this.#hooks = hooks;
    this.#greeting = setTimeout(() => socket.destroy(), limits.preambleTimeoutMs).unref();
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS); // a silent client is in order, a dead host is not
    socket.on('data', (chunk) => this.#receive(chunk));
    socket.on('drain', () => this.#pump());
    socket.on('error', () => {}); // 'close' follows
    socket.on('close', () => this.#close());
  }

  reply(reply: Reply): void {
    if (this.#closed || reply.length === 0) return;
    const length = replyLength(reply);
    this.#state.budget.reserve(length);
    const release = (): void => this.#state.budget.release(length);
    this.#socket.cork();
    for (const part of reply.slice(0, -1)) this.#socket.write(part);
    this.#socket.write(reply.at(-1)!, release);
    this.#socket.uncork();
  }

  wake(): void {
    try {
      this.reply(byteReply(STOP_WAITING));
    } catch (error) {
      this.#fail(error); // out of memory for one byte: this waiter goes, not the client whose write woke it
    }
  }

  /** Calls back when everything replied so far was handed to the kernel; never when the connection breaks before. */
  flushed(callback: () => void): void {
    this.#socket.write(new Uint8Array(0), (error) => {
      if (!error) callback();
    });
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #receive(chunk: Uint8Array): void {
    try {
      this.#parser.append(chunk);
    } catch (error) {
      this.#fail(error);
    }
    this.#pump();
  }

  #pump(): void {
    try {
      while (!this.#closed && !this.#socket.destroyed && this.#socket.writableLength < UNSENT_BYTES) {
        const request = this.#parser.next();
        if (this.#parser.greeted) clearTimeout(this.#greeting);
        if (request === null) {
          this.#socket.resume();
          return;
        }
        this.#state.apply(this, request);
        this.#hooks.done(request);
      }
      this.#socket.pause();
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    this.#socket.destroy();
    if (!(error instanceof MalformedRequest)) throw error;
  }

  #close(): void {
    this.#closed = true;
    clearTimeout(this.#greeting);
    this.#state.waiters.cancel(this);
    this.#parser.close();
    this.#hooks.closed();
  }
}

/** Undoes the IPv4-in-IPv6 form that a dual-stack listener reports. */
const plainAddress = (address: string): string => address.replace(/^::ffff:(?=\d+\.)/, '');
