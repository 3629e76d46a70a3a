import { ByteQueue } from './byte-queue.js';
import type { Memory, StoreLimits } from './limits.js';
import { type Field, MalformedRequest, PREAMBLE, SHAPES, type Shape } from './protocol.js';
import { decodeRequest, type StoreRequest } from './request.js';

/** How far the request at the head of the queue has been looked at; never looked at twice. */
interface Scan {
  readonly shape: Shape;
  /** bytes of the request known to be there */
  offset: number;
  /** Groups of fields still to come; null before the count was read. */
  groupsLeft: number | null;
  field: number;
  /** Length of the string whose header was read, but not its bytes. */
  pending: number | null;
}

/**
 * Cuts a connection's bytes into requests. A request comes out once it is whole, however it was fragmented; lengths are held
 * against the limits as soon as they are read, before their bytes arrive.
 */
export class RequestParser {
  readonly #limits: StoreLimits;
  readonly #queue: ByteQueue;
  #greeted = false;
  #scan: Scan | null = null;

  constructor(limits: StoreLimits, memory: Memory) {
    this.#limits = limits;
    this.#queue = new ByteQueue(memory);
  }

  /** True once the preamble has arrived. */
  get greeted(): boolean {
    return this.#greeted;
  }

  /** Bytes that have arrived and belong to no request that came out. */
  get held(): number {
    return this.#queue.length;
  }

  /** @throws MalformedRequest when the store's memory is spent */
  append(chunk: Uint8Array): void {
    this.#queue.append(chunk);
  }

  /** The next whole request, or null until more bytes arrive. @throws MalformedRequest; the connection must then be closed. */
  next(): StoreRequest | null {
    if (!this.#greeted && !this.#greet()) return null;
    const bytes = this.#queue.unread;
    const scan = this.#scan ?? begin(bytes);
    this.#scan = scan;
    if (scan === null || !this.#advance(scan, bytes)) return null;
    const request = decodeRequest(bytes.subarray(0, scan.offset));
    this.#queue.consume(scan.offset);
    this.#scan = null;
    return request;
  }

  /** Gives the memory back. */
  close(): void {
    this.#queue.clear();
  }

  #greet(): boolean {
    const start = this.#queue.unread.subarray(0, PREAMBLE.length);
    if (!start.equals(PREAMBLE.subarray(0, start.length))) {
      throw new MalformedRequest('the connection does not begin as a TCPStore client of torch 2.2 or later');
    }
    if (start.length < PREAMBLE.length) return false;
    this.#queue.consume(PREAMBLE.length);
    this.#greeted = true;
    return true;
  }

  #advance(scan: Scan, bytes: Buffer): boolean {
    const { shape } = scan;
    if (scan.groupsLeft === null) {
      if (bytes.length < scan.offset + 8) return false;
      scan.groupsLeft = readLength(bytes, scan.offset, this.#limits.keysPerRequest);
      scan.offset += 8;
    }
    while (scan.groupsLeft > 0) {
      while (scan.field < shape.fields.length) {
        if (!this.#skip(scan, shape.fields[scan.field]!, bytes)) return false;
        scan.field++;
      }
      scan.field = 0;
      scan.groupsLeft--;
    }
    return true;
  }

  #skip(scan: Scan, field: Field, bytes: Buffer): boolean {
    let size = field === 'u32' ? 4 : 8;
    if (field === 'key' || field === 'value') {
      if (scan.pending === null) {
        if (bytes.length < scan.offset + 8) return false;
        const limit = field === 'key' ? this.#limits.keyBytes : this.#limits.valueBytes;
        scan.pending = readLength(bytes, scan.offset, limit);
        scan.offset += 8;
      }
      size = scan.pending;
    }
    if (scan.offset + size > this.#limits.messageBytes) {
      throw new MalformedRequest(`the request is longer than ${this.#limits.messageBytes} bytes`);
    }
    if (bytes.length < scan.offset + size) return false;
    scan.offset += size;
    scan.pending = null;
    return true;
  }
}

function begin(bytes: Buffer): Scan | null {
  const opcode = bytes[0];
  if (opcode === undefined) return null;
  const shape = SHAPES[opcode];
  if (shape === undefined) throw new MalformedRequest(`unknown opcode ${opcode}`);
  return { shape, offset: 1, groupsLeft: shape.repeated ? null : 1, field: 0, pending: null };
}

function readLength(bytes: Buffer, offset: number, limit: number): number {
  const length = bytes.readBigUInt64LE(offset);
  if (length > BigInt(limit))
    throw new MalformedRequest(`a length of ${length} exceeds the limit of ${limit}`);
  return Number(length);
}
