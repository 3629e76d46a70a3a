import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import { ByteQueue } from '../../../../src/transports/nccl/store/byte-queue.js';
import {
  type StoreServer,
  type StoreServerOptions,
  startStoreServer,
} from '../../../../src/transports/nccl/store/server.js';

export const PREAMBLE_HEX = '00cef7853c';

/** A store on a free loopback port, closed afterwards. */
export async function withStore(
  body: (store: StoreServer) => Promise<void>,
  options: Partial<StoreServerOptions> = {},
): Promise<void> {
  const store = await startStoreServer({ host: '127.0.0.1', port: 0, ...options });
  try {
    await body(store);
  } finally {
    await store.close();
  }
}

/** Hex in, hex out: exactly the bytes of the wire. */
export class RawClient {
  readonly #socket: Socket;
  readonly #received = new ByteQueue();
  readonly #ended: Promise<unknown>;
  #closed = false;
  #arrival: () => void = () => {};

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk) => {
      this.#received.append(chunk);
      this.#arrival();
    });
    socket.on('error', () => {}); // 'close' follows
    this.#ended = new Promise((resolve) => socket.once('close', resolve));
    socket.once('close', () => {
      this.#closed = true;
      this.#arrival();
    });
  }

  static async connect(port: number, firstHex = PREAMBLE_HEX): Promise<RawClient> {
    const socket = createConnection({ host: '127.0.0.1', port, noDelay: true });
    await once(socket, 'connect');
    const client = new RawClient(socket);
    if (firstHex !== '') await client.send(firstHex);
    return client;
  }

  /** Resolves when the kernel has the bytes. */
  send(hex: string): Promise<void> {
    return this.sendBytes(Buffer.from(hex, 'hex'));
  }

  sendBytes(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve) => this.#socket.write(bytes, () => resolve()));
  }

  /** Sends the bytes as the last. */
  end(bytes: Uint8Array): void {
    this.#socket.end(bytes);
  }

  /** Exactly the next `byteLength` bytes, or fewer when the connection ended. */
  async receive(byteLength: number): Promise<string> {
    while (this.#received.length < byteLength && !this.#closed) {
      await this.#arrived();
    }
    const length = Math.min(byteLength, this.#received.length);
    const hex = this.#received.unread.subarray(0, length).toString('hex');
    this.#received.consume(length);
    return hex;
  }

  /** What came until the server answers a PING sent now, which proves that it is open and has nothing more to say; or until it closed. */
  async settle(): Promise<{ hex: string; open: boolean }> {
    const nonce = '5aa5c33c';
    await this.send(`0d${nonce}`);
    while (!this.#closed && !this.#received.unread.subarray(-4).equals(Buffer.from(nonce, 'hex'))) {
      await this.#arrived();
    }
    const hex = this.#received.unread.toString('hex');
    this.#received.clear();
    return this.#closed ? { hex, open: false } : { hex: hex.slice(0, -8), open: true };
  }

  #arrived(): Promise<void> {
    return new Promise((resolve) => {
      this.#arrival = resolve;
    });
  }

  /** Stops reading, as a client that hangs. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Resolves when the server has closed the connection. */
  async closed(): Promise<void> {
    await this.#ended;
  }

  destroy(): void {
    this.#socket.destroy();
  }
}
