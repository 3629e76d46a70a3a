import { asWeightcastError, WeightcastError } from '../../../errors.js';
import type { StoreConnection } from '../store/connection.js';
import { RENDEZVOUS_LIMITS } from '../store/limits.js';
import { JOIN_KEY } from '../store/protocol.js';
import { type StoreServer, startStoreServer } from '../store/server.js';
import { addressesOf } from './addresses.js';
import { callRoll, type ExpectedWorker } from './roll-call.js';
import { pickleUniqueId } from './unique-id.js';

/** First object that rank 0 of a vLLM StatelessProcessGroup broadcasts: PyNcclCommunicator's unique id (contracts/vllm.md §3). */
const UNIQUE_ID_KEY = '/broadcast_from/0/0';
/** Whoever makes the id has the same deadline and says better why there is none: so long after it he is waited for. The law is one second. */
const REASON_MS = 400;
/** Workers unpickle, which is to execute, whatever lies under this prefix. */
const RANK0_PREFIX = '/broadcast_from/0/';

export interface RendezvousOptions {
  /** Address of this machine that the workers are told: the only one that is bound. */
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
  /**
   * 128 bytes of ncclGetUniqueId, or how to get them once every worker has joined: an id that nobody joins by leaves a thread and three
   * sockets behind in NCCL (contracts/nccl.md 2.4).
   */
  readonly uniqueId: Uint8Array | (() => Promise<Uint8Array>);
  /** Every worker that joins through this store; rank 0 is this process and is not among them. */
  readonly expected: readonly ExpectedWorker[];
  /** From now until every worker has the id. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * A store that hands the unique id to the workers once all of them have joined. Between opening and completing, the caller posts
 * the address to the engines.
 */
export class Rendezvous {
  readonly address: string;
  readonly port: number;
  readonly #store: StoreServer;
  readonly #options: RendezvousOptions;
  readonly #workers = new Map<StoreConnection, 'joined' | 'served'>();
  readonly #engineAddresses = new Map<string, ReadonlySet<string>>();
  readonly #done: Promise<void>;
  #settle: { resolve(): void; reject(error: WeightcastError): void } | null = null;
  #servedCount = 0;
  #deserters = 0;
  #refused = 0;
  #lastRefusal: string | null = null;
  /** The id is being made, or is made. */
  #asked = false;
  #published = false;
  #timer: NodeJS.Timeout | undefined;

  /** Takes over a store that nobody has joined; {@link openRendezvous} makes one. */
  constructor(store: StoreServer, options: RendezvousOptions) {
    this.address = store.address;
    this.port = store.port;
    this.#store = store;
    this.#options = options;
    this.#done = this.#watch();
    this.#done.catch(() => {}); // whoever never calls complete() learns it from close()
    store.add(JOIN_KEY, 1); // rank 0 itself, as in torch
    store.on('join', (worker) => this.#joined(worker));
    store.on('leave', (worker) => this.#left(worker));
    store.on('refused', (client, reason) => {
      this.#refused++;
      this.#lastRefusal = `${client.remoteAddress}: ${reason}`;
    });
    store.on('read', (worker, key) => {
      if (key === UNIQUE_ID_KEY) this.#served(worker);
    });
    for (const engine of new Set(options.expected.map((worker) => worker.engine))) {
      // Only for the message at the deadline, which takes what is known by then.
      void addressesOf(engine).then((addresses) => this.#engineAddresses.set(engine, addresses));
    }
    this.#advance();
  }

  /** Workers have the id, or can have it: those enter ncclCommInitRank, and nothing that is done here gets them out. */
  get published(): boolean {
    return this.#published;
  }

  /**
   * Resolves when every worker has been sent the id.
   * @throws WeightcastError WC_RENDEZVOUS_TIMEOUT, which names who is missing as well as it can be known, or
   * WC_RENDEZVOUS_ABORTED. Until it is closed the store goes on to listen then, and drops every worker that joins: one that finds nobody listening tries
   * again for five minutes (torch's default), and its engine answers nothing else in that time.
   */
  complete(): Promise<void> {
    return this.#done;
  }

  /** Ends it now: complete() rejects with WC_RENDEZVOUS_ABORTED and this cause, and workers lose their connection, also those that join later. */
  abort(reason?: unknown): void {
    this.#fail('WC_RENDEZVOUS_ABORTED', 'the rendezvous was called off', { cause: reason });
  }

  /** Closes the store. Workers need it no longer once complete() has resolved; before that it is an abort. Safe to call twice. */
  async close(): Promise<void> {
    this.abort();
    await this.#store.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #watch(): Promise<void> {
    const { timeoutMs, signal } = this.#options;
    return new Promise((resolve, reject) => {
      this.#timer = setTimeout(() => this.#expire(), timeoutMs);
      const onAbort = (): void => this.abort(signal?.reason);
      signal?.addEventListener('abort', onAbort, { once: true });
      if (signal?.aborted) queueMicrotask(onAbort);
      const release = (): void => {
        clearTimeout(this.#timer);
        signal?.removeEventListener('abort', onAbort);
        this.#settle = null;
      };
      this.#settle = {
        resolve: () => {
          release();
          resolve();
        },
        reject: (error) => {
          release();
          reject(error);
        },
      };
    });
  }

  #joined(worker: StoreConnection): void {
    if (this.#settle === null) {
      worker.destroy();
      return;
    }
    if (!this.#workers.has(worker)) this.#workers.set(worker, 'joined');
    this.#advance();
  }

  /** A worker that goes without the id may come back on another connection: then it counts once. */
  #left(worker: StoreConnection): void {
    if (this.#workers.get(worker) !== 'joined') return;
    this.#workers.delete(worker);
    this.#deserters++;
  }

  #served(worker: StoreConnection): void {
    if (this.#workers.get(worker) === 'joined') {
      this.#workers.set(worker, 'served');
      this.#servedCount += 1;
    }
    this.#advance();
  }

  #advance(): void {
    const { expected, uniqueId } = this.#options;
    if (!this.#asked && this.#workers.size >= expected.length) {
      this.#asked = true;
      if (typeof uniqueId === 'function') this.#publishLater(uniqueId);
      else this.#publish(uniqueId);
    }
    if (this.#servedCount >= expected.length) this.#settle?.resolve();
  }

  #publishLater(uniqueId: () => Promise<Uint8Array>): void {
    uniqueId().then(
      (id) => {
        if (this.#settle !== null) this.#publish(id);
      },
      (error: unknown) => this.#give(asWeightcastError(error, 'WC_NCCL_FAILED', { phase: 'rendezvous' })),
    );
  }

  #publish(id: Uint8Array): void {
    this.#published = true;
    this.#store.set(UNIQUE_ID_KEY, pickleUniqueId(id));
  }

  #expire(): void {
    if (this.#asked && !this.#published) this.#timer = setTimeout(() => this.#explain(), REASON_MS);
    else this.#explain();
  }

  /** Who is missing, or what, at the deadline. */
  #explain(): void {
    const { expected, timeoutMs } = this.#options;
    const joinedFrom = [...this.#workers.keys()].map((worker) => worker.remoteAddress);
    const roll = callRoll({ expected, joinedFrom, engineAddresses: this.#engineAddresses });
    const served = this.#servedCount;
    const idle = this.#published
      ? `; the unique id was published and ${served} took it`
      : this.#asked
        ? '; no unique id was made for them'
        : '';
    const lost = this.#deserters > 0 ? `; ${this.#deserters} joined and went away` : '';
    const refused =
      this.#refused > 0 ? `; connections refused: ${this.#refused}, the last from ${this.#lastRefusal}` : '';
    const engine = roll.missingEngines?.length === 1 ? roll.missingEngines[0] : undefined;
    const message = `${roll.message}${idle}${lost}${refused} (store ${this.address}:${this.port}, ${Math.round(timeoutMs)} ms)`;
    this.#fail('WC_RENDEZVOUS_TIMEOUT', message, {
      engine,
      details: {
        joined: joinedFrom.length,
        expected: expected.length,
        served,
        joinedFrom,
        missingEngines: roll.missingEngines,
        refused: this.#refused,
        lastRefusal: this.#lastRefusal,
      },
    });
  }

  #fail(
    code: 'WC_RENDEZVOUS_TIMEOUT' | 'WC_RENDEZVOUS_ABORTED',
    message: string,
    facts: { engine?: string | undefined; cause?: unknown; details?: Record<string, unknown> },
  ): void {
    this.#give(new WeightcastError(code, message, { phase: 'rendezvous', ...facts }));
  }

  #give(error: WeightcastError): void {
    if (this.#settle === null) return;
    this.#settle.reject(error);
    for (const worker of this.#workers.keys()) worker.destroy();
  }
}

/**
 * Listens, so that the engines can be told where to join.
 *
 * @example
 * await using meeting = await openRendezvous({ host: '10.0.0.1', port: 0, uniqueId, expected, timeoutMs: 300_000 });
 * await Promise.all([meeting.complete(), ...engines.map((engine) => postInit(engine, meeting.port))]);
 *
 * @throws WeightcastError WC_RENDEZVOUS_ADDRESS when the address is not this machine's or the port is taken,
 * WC_RENDEZVOUS_ABORTED, WC_NATIVE_ARGUMENT for an id that has not 128 bytes
 */
export async function openRendezvous(options: RendezvousOptions): Promise<Rendezvous> {
  if (typeof options.uniqueId !== 'function') pickleUniqueId(options.uniqueId);
  const { host, port, signal } = options;
  const store = await startStoreServer({
    host,
    port,
    limits: RENDEZVOUS_LIMITS,
    reservedPrefix: RANK0_PREFIX,
    signal,
  });
  return new Rendezvous(store, options);
}
