import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import { WeightcastError } from '../../../errors.js';
import { ByteQueue } from './byte-queue.js';

export const lost = (message: string, cause?: unknown): WeightcastError =>
  new WeightcastError('WC_RENDEZVOUS_PROTOCOL', message, { phase: 'rendezvous', cause });

/** The client's end of a connection: writes whole requests, reads replies of a known length. One reader at a time. */
export class Channel {
  readonly #socket: Socket;
  readonly #received = new ByteQueue();
  #failure: WeightcastError | null = null;
  #arrival: (() => void) | null = null;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk) => {
      this.#received.append(chunk);
      this.#arrival?.();
    });
    socket.on('error', (error) =>
      this.destroy(lost(`the store broke the connection: ${error.message}`, error)),
    );
    socket.on('close', () => this.destroy(lost('the store closed the connection')));
  }

  /** @throws the socket's error, or the signal's reason */
  static async open(host: string, port: number, signal: AbortSignal): Promise<Channel> {
    const socket = createConnection({ host, port, noDelay: true, keepAlive: true, autoSelectFamily: true });
    try {
      await once(socket, 'connect', { signal });
    } catch (error) {
      socket.on('error', () => {});
      socket.destroy();
      throw error;
    }
    return new Channel(socket);
  }

  get failure(): WeightcastError | null {
    return this.#failure;
  }

  send(bytes: Uint8Array): void {
    if (this.#failure !== null) throw this.#failure;
    this.#socket.write(bytes);
  }

  /**
   * The next `length` bytes, or null when they are not there at the deadline or at the abort.
   * @param deadline of performance.now(), in ms
   * @throws WeightcastError when the connection is broken
   */
  async receive(length: number, deadline: number, signal?: AbortSignal): Promise<Buffer | null> {
    while (this.#received.length < length) {
      if (this.#failure !== null) throw this.#failure;
      const left = deadline - performance.now();
      if (left <= 0 || signal?.aborted) return null;
      await this.#arrived(left, signal);
    }
    const bytes = Buffer.from(this.#received.unread.subarray(0, length));
    this.#received.consume(length);
    return bytes;
  }

  destroy(reason: WeightcastError): void {
    this.#failure ??= reason;
    this.#socket.destroy();
    this.#arrival?.();
  }

  /** Ends when something came, broke, timed out or was aborted; the caller looks which. */
  #arrived(timeoutMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const finish = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', finish);
        this.#arrival = null;
        resolve();
      };
      const timer = setTimeout(finish, timeoutMs);
      signal?.addEventListener('abort', finish, { once: true });
      this.#arrival = finish;
    });
  }
}
