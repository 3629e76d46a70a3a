import { EventEmitter, once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { WeightcastError } from '../../../errors.js';
import { StoreConnection, type StoreParts } from './connection.js';
import { Greetings } from './greetings.js';
import { DEFAULT_LIMITS, type StoreLimits } from './limits.js';
import { JOIN_KEY } from './protocol.js';
import { type StoreRequest, type WireKey, wireKey } from './request.js';
import { StoreState } from './state.js';
import { Turns } from './turns.js';
import { waitInProcess } from './wait.js';

export interface StoreServerOptions {
  /** The one address to bind. There is no authentication: name the address that the workers need, not 0.0.0.0. */
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
  readonly limits?: Partial<StoreLimits>;
  /** Clients that write keys with this prefix, or `init/` but by adding to it, are cut off: what workers unpickle comes from this process only. */
  readonly reservedPrefix?: string;
  /** Closes the server when aborted. */
  readonly signal?: AbortSignal | undefined;
}

/** Every worker of a large fleet may connect in the same instant. */
const BACKLOG = 4096;

interface StoreEvents {
  /** A client added to `init/`: a worker's constructor has joined. */
  join: [StoreConnection];
  /** A client has been sent the value of a key that exists, down to the kernel. */
  read: [StoreConnection, WireKey];
  leave: [StoreConnection];
  /** A client was cut off, and why: it broke the protocol or a limit. */
  refused: [StoreConnection, string];
}

/**
 * A TCPStore that torch ≥ 2.2 clients join. Keys in this process's own calls are wire keys: a torch user's 'k' is '/k' here.
 *
 * @example
 * await using store = await startStoreServer({ host: '127.0.0.1', port: 0 });
 * store.set('/greeting', Buffer.from('hello'));
 * // Python: TCPStore('127.0.0.1', port, is_master=False).get('greeting')
 */
export class StoreServer extends EventEmitter<StoreEvents> {
  readonly address: string;
  readonly port: number;
  readonly #server: Server;
  readonly #state: StoreState;
  readonly #limits: StoreLimits;
  readonly #parts: StoreParts;
  /** Oldest first. */
  readonly #connections = new Set<StoreConnection>();
  readonly #joined = new WeakSet<StoreConnection>();
  readonly #closed: Promise<void>;
  #closing: Promise<void> | null = null;

  /** Takes over a listening server; {@link startStoreServer} makes one. */
  constructor(server: Server, limits: StoreLimits, reservedPrefix: string | null) {
    super();
    const { address, port } = server.address() as AddressInfo;
    this.address = address;
    this.port = port;
    this.#server = server;
    this.#limits = limits;
    this.#state = new StoreState(limits, reservedPrefix === null ? null : wireKey(reservedPrefix));
    const greetings = new Greetings(limits.preambleTimeoutMs);
    this.#parts = { state: this.#state, turns: new Turns(), greetings, limits };
    server.on('connection', (socket) => this.#accept(socket));
    server.on('error', () => {}); // a failed accept concerns one client, which retries
    this.#closed = new Promise((resolve) => server.once('close', resolve));
  }

  get connections(): number {
    return this.#connections.size;
  }

  set(key: string, value: Uint8Array): void {
    this.#state.set(wireKey(key), new Uint8Array(value));
  }

  /** A copy of the value, or null. */
  get(key: string): Uint8Array | null {
    const value = this.#state.contents.get(wireKey(key));
    return value === undefined ? null : new Uint8Array(value);
  }

  /** Adds as int64 to the decimal value under the key (missing: 0) and returns the sum. */
  add(key: string, delta: number | bigint): bigint {
    return this.#state.add(wireKey(key), BigInt(delta));
  }

  /** @throws WeightcastError WC_RENDEZVOUS_TIMEOUT, or WC_RENDEZVOUS_ABORTED by the signal or because the server closed */
  waitFor(keys: readonly string[], options: { timeoutMs: number; signal?: AbortSignal }): Promise<void> {
    return waitInProcess(this.#state, keys, { ...options, closed: this.#closed });
  }

  /** Stops listening and destroys every socket. Safe to call twice. */
  close(): Promise<void> {
    this.#closing ??= new Promise((resolve) => {
      this.#server.close(() => resolve());
      for (const connection of this.#connections) connection.destroy();
    });
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #accept(socket: Socket): void {
    if (this.#closing !== null) {
      socket.destroy();
      return;
    }
    if (this.#connections.size >= this.#limits.connections) this.#makeRoom();
    const connection = new StoreConnection(socket, this.#parts, {
      done: (request) => this.#report(connection, request),
      refused: (reason) => this.emit('refused', connection, reason),
      closed: () => {
        this.#connections.delete(connection);
        this.emit('leave', connection);
      },
    });
    this.#connections.add(connection);
    if (this.#connections.size > this.#limits.connections) connection.refuse(this.#full());
  }

  /** A worker joins as soon as it has connected; whoever is there for longest and has not is none. */
  #makeRoom(): void {
    for (const connection of this.#connections) {
      if (this.#joined.has(connection)) continue;
      this.#connections.delete(connection);
      connection.refuse(this.#full());
      return;
    }
  }

  #full(): string {
    return `the store's limit of ${this.#limits.connections} connections is reached`;
  }

  #report(connection: StoreConnection, request: StoreRequest): void {
    if (request.kind === 'add' && request.key === JOIN_KEY && request.delta > 0n) {
      this.#joined.add(connection);
      this.emit('join', connection);
    }
    if (request.kind !== 'get' || this.#state.contents.get(request.key) === undefined) return;
    connection.flushed(() => this.emit('read', connection, request.key));
  }
}

/**
 * Binds and listens.
 * @throws WeightcastError WC_RENDEZVOUS_ADDRESS when the address is not this machine's or the port is taken
 */
export async function startStoreServer(options: StoreServerOptions): Promise<StoreServer> {
  const { host, port, signal } = options;
  const wanted = { ...DEFAULT_LIMITS, ...options.limits };
  const limits = { ...wanted, connections: Math.min(wanted.connections, spareDescriptors()) };
  const server = createServer({ noDelay: true, allowHalfOpen: true });
  server.listen({ host, port, backlog: BACKLOG, exclusive: true });
  try {
    await once(server, 'listening', signal === undefined ? {} : { signal });
  } catch (cause) {
    server.close();
    if (signal?.aborted) throw aborted(signal);
    throw new WeightcastError(
      'WC_RENDEZVOUS_ADDRESS',
      `cannot listen on ${host}:${port}: ${bindProblem(cause)}`,
      {
        phase: 'rendezvous',
        cause,
        details: { host, port },
      },
    );
  }
  const store = new StoreServer(server, limits, options.reservedPrefix ?? null);
  const stop = (): void => void store.close();
  signal?.addEventListener('abort', stop, { once: true });
  server.once('close', () => signal?.removeEventListener('abort', stop));
  return store;
}

/** Descriptors that the rest of the process keeps: files of checkpoints, engines' connections. */
const KEPT_DESCRIPTORS = 512;
const FEWEST_CONNECTIONS = 64;

/** Connections that leave this process enough descriptors, by its own limit. */
function spareDescriptors(): number {
  const line = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'));
  const most = line === null ? Number.POSITIVE_INFINITY : Number(line[1]);
  return Math.max(FEWEST_CONNECTIONS, most - KEPT_DESCRIPTORS);
}

const aborted = (signal: AbortSignal): WeightcastError =>
  new WeightcastError('WC_RENDEZVOUS_ABORTED', 'the rendezvous was aborted', {
    phase: 'rendezvous',
    cause: signal.reason,
  });

function bindProblem(error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'EADDRINUSE') return 'the port is in use';
  if (code === 'EADDRNOTAVAIL') return 'this machine does not have that address';
  return error instanceof Error ? error.message : String(error);
}
