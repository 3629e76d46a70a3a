import { WeightcastError } from '../../../errors.js';
import { type Channel, lost } from './channel.js';
import { connectChannel } from './connect.js';
import { DEFAULT_LIMITS } from './limits.js';
import { JOIN_KEY, STOP_WAITING, WAIT_CANCELED } from './protocol.js';
import { encodeRequest, type StoreRequest, userKey } from './request.js';

export interface StoreClientOptions {
  readonly host: string;
  readonly port: number;
  /** For connecting, with all retries, and as the default of every operation; torch's default is 300 000. */
  readonly timeoutMs: number;
  /** Ends every operation and the connection. */
  readonly signal?: AbortSignal | undefined;
}

/** Time in ms that the answer to CANCEL_WAIT may take; a store that does not give it is gone. */
const CANCEL_TIMEOUT_MS = 2_000;

/**
 * A client of a TCPStore, ours or torch's: what a worker does in its constructor and in `get`. Keys are what a torch user
 * writes; the '/' is added here. Operations run one after another, as in torch. Any error but a timed-out wait ends the connection.
 *
 * @example
 * await using client = await connectStore({ host: '127.0.0.1', port, timeoutMs: 10_000 });
 * await client.join();
 * const pickledId = await client.get('broadcast_from/0/0');
 */
export class StoreClient {
  readonly #channel: Channel;
  readonly #timeoutMs: number;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = (): void => this.#channel.destroy(this.#aborted());
  #tail: Promise<unknown> = Promise.resolve();

  /** {@link connectStore} makes one. */
  constructor(channel: Channel, timeoutMs: number, signal: AbortSignal | undefined) {
    this.#channel = channel;
    this.#timeoutMs = timeoutMs;
    this.#signal = signal;
    if (signal?.aborted) this.#onAbort();
    signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** Counts this process as joined, as torch's constructor does when it has a world size. Returns the count. */
  join(): Promise<bigint> {
    return this.#exclusively(() => this.#add(JOIN_KEY, 1n));
  }

  /** Fire and forget, as the protocol has no answer to it: a lost connection shows at the next call that has one. */
  set(key: string, value: Uint8Array): Promise<void> {
    return this.#exclusively(async () => this.#send({ kind: 'set', key: userKey(key), value }));
  }

  /** Waits until the key exists, then reads it. @throws WeightcastError WC_RENDEZVOUS_TIMEOUT */
  get(key: string, timeoutMs = this.#timeoutMs): Promise<Uint8Array> {
    return this.#exclusively(async () => {
      const deadline = performance.now() + timeoutMs;
      await this.#wait([key], deadline);
      this.#send({ kind: 'get', key: userKey(key) });
      const length = (await this.#answer(8)).readBigUInt64LE();
      if (length > BigInt(DEFAULT_LIMITS.messageBytes)) throw this.#fail(lost(`a value of ${length} bytes`));
      return new Uint8Array(await this.#answer(Number(length)));
    });
  }

  /** Adds to the decimal value under the key (missing: 0) and returns the sum. */
  add(key: string, delta: number | bigint): Promise<bigint> {
    return this.#exclusively(() => this.#add(userKey(key), BigInt(delta)));
  }

  /** Waits until every key exists. After a timeout the connection stays usable. @throws WeightcastError WC_RENDEZVOUS_TIMEOUT */
  wait(keys: readonly string[], timeoutMs = this.#timeoutMs): Promise<void> {
    return this.#exclusively(() => this.#wait(keys, performance.now() + timeoutMs));
  }

  /** Breaks the connection; operations that still run reject. Safe to call twice. */
  async close(): Promise<void> {
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#channel.destroy(lost('the client was closed'));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #add(key: string, delta: bigint): Promise<bigint> {
    this.#send({ kind: 'add', key, delta });
    return (await this.#answer(8)).readBigInt64LE();
  }

  async #wait(keys: readonly string[], deadline: number): Promise<void> {
    this.#send({ kind: 'wait', keys: keys.map(userKey) });
    const answer = await this.#channel.receive(1, deadline);
    if (answer !== null) return this.#expectByte(answer, STOP_WAITING);
    // The key may be set while the cancel is under way: then STOP_WAITING comes first, and WAIT_CANCELED after it.
    this.#send({ kind: 'cancelWait' });
    const first = await this.#answer(1, CANCEL_TIMEOUT_MS);
    if (first[0] === STOP_WAITING)
      return this.#expectByte(await this.#answer(1, CANCEL_TIMEOUT_MS), WAIT_CANCELED);
    this.#expectByte(first, WAIT_CANCELED);
    throw new WeightcastError('WC_RENDEZVOUS_TIMEOUT', `nobody has set ${keys.join(', ')} in time`, {
      phase: 'rendezvous',
    });
  }

  #send(request: StoreRequest): void {
    this.#channel.send(encodeRequest(request));
  }

  /** A pending reply is never abandoned on a living connection: the next one would be taken for it. */
  async #answer(length: number, timeoutMs = this.#timeoutMs): Promise<Buffer> {
    const bytes = await this.#channel.receive(length, performance.now() + timeoutMs);
    if (bytes !== null) return bytes;
    throw this.#fail(
      new WeightcastError('WC_RENDEZVOUS_TIMEOUT', `the store did not answer for ${timeoutMs} ms`, {
        phase: 'rendezvous',
      }),
    );
  }

  #expectByte(answer: Buffer, expected: number): void {
    if (answer[0] !== expected) throw this.#fail(lost(`the store answered ${answer[0]} to a wait`));
  }

  #fail(error: WeightcastError): WeightcastError {
    this.#channel.destroy(error);
    return error;
  }

  #aborted(): WeightcastError {
    return new WeightcastError('WC_RENDEZVOUS_ABORTED', 'the store client was aborted', {
      phase: 'rendezvous',
      cause: this.#signal?.reason,
    });
  }

  #exclusively<T>(operation: () => Promise<T>): Promise<T> {
    const turn = this.#tail.then(operation);
    this.#tail = turn.catch(() => {});
    return turn;
  }
}

/**
 * Connects, and keeps trying until the deadline: a worker may start before its store listens.
 * @throws WeightcastError WC_RENDEZVOUS_TIMEOUT with the last failure as cause, or WC_RENDEZVOUS_ABORTED
 */
export async function connectStore(options: StoreClientOptions): Promise<StoreClient> {
  return new StoreClient(await connectChannel(options), options.timeoutMs, options.signal);
}
