/**
 * The metadata of prime-rl's stream, as `pickle.loads` would read it, for the few opcodes that such a stream has. A second reading of contracts/prime-rl.md 3.1,
 * not shared with the sender; anything else is an UnpicklingError, and nothing is ever evaluated.
 */
import { WorkerError } from '../server/transfer-info.js';

export interface StreamedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly numel: number;
}

/** Tensors by the name of their dtype in torch, in the pickle's order. */
export type StreamMetadata = ReadonlyMap<string, readonly StreamedTensor[]>;

const MARK = Symbol('mark');

/** @throws WorkerError as Python's UnpicklingError, or when the object is no metadata */
export function unpickleMetadata(pickle: Uint8Array): StreamMetadata {
  const loaded = new Machine(pickle).run();
  if (!(loaded instanceof Map)) throw new WorkerError("object has no attribute 'items'");
  const metadata = new Map<string, readonly StreamedTensor[]>();
  for (const [dtype, members] of loaded) {
    if (typeof dtype !== 'string' || !Array.isArray(members)) throw unreadable('no list of tensors');
    metadata.set(dtype, members.map(tensorOf));
  }
  return metadata;
}

function tensorOf(member: unknown): StreamedTensor {
  const [name, shape, numel] = Array.isArray(member) ? (member as unknown[]) : [];
  const isShape = Array.isArray(shape) && shape.every((extent) => typeof extent === 'number' && extent >= 0);
  if (typeof name !== 'string' || !isShape || typeof numel !== 'number' || numel < 0) {
    throw unreadable('no (name, shape, numel)');
  }
  return { name, shape: shape as number[], numel };
}

const unreadable = (why: string): WorkerError =>
  new WorkerError(`pickle data was truncated or foreign: ${why}`);

class Machine {
  readonly #bytes: Buffer;
  readonly #stack: unknown[] = [];
  #at = 0;

  constructor(pickle: Uint8Array) {
    this.#bytes = Buffer.from(pickle.buffer, pickle.byteOffset, pickle.byteLength);
  }

  run(): unknown {
    try {
      while (this.#step());
    } catch (error) {
      throw error instanceof WorkerError ? error : unreadable(String((error as Error).message));
    }
    return this.#stack.pop();
  }

  /** False at the end. */
  #step(): boolean {
    const opcode = String.fromCharCode(this.#byte());
    switch (opcode) {
      case '\x80':
        this.#byte();
        return true;
      case '}':
        return this.#push(new Map());
      case ']':
        return this.#push([]);
      case '(':
        return this.#push(MARK);
      case 'c':
        return this.#push(this.#torchDtype());
      case 'X':
        return this.#push(this.#take(this.#take(4).readUInt32LE()).toString('utf8'));
      case 'K':
        return this.#push(this.#byte());
      case 'M':
        return this.#push(this.#take(2).readUInt16LE());
      case 'J':
        return this.#push(this.#take(4).readInt32LE());
      case '\x8a':
        return this.#push(this.#long());
      case 't':
        return this.#push(this.#sinceMark());
      case 'e': {
        const items = this.#sinceMark();
        (this.#stack.at(-1) as unknown[]).push(...items);
        return true;
      }
      case 'u': {
        const items = this.#sinceMark();
        const dict = this.#stack.at(-1) as Map<unknown, unknown>;
        for (let index = 0; index < items.length; index += 2) dict.set(items[index], items[index + 1]);
        return true;
      }
      case '.':
        return false;
      default:
        throw unreadable(`invalid load key, ${JSON.stringify(opcode)}`);
    }
  }

  #push(value: unknown): true {
    this.#stack.push(value);
    return true;
  }

  #byte(): number {
    return this.#take(1).readUInt8();
  }

  #take(byteLength: number): Buffer {
    if (this.#at + byteLength > this.#bytes.length) throw unreadable('it ends too early');
    this.#at += byteLength;
    return this.#bytes.subarray(this.#at - byteLength, this.#at);
  }

  #line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end < 0) throw unreadable('a line does not end');
    const line = this.#bytes.toString('utf8', this.#at, end);
    this.#at = end + 1;
    return line;
  }

  #torchDtype(): string {
    const [module, name] = [this.#line(), this.#line()];
    if (module !== 'torch') throw unreadable(`a reference engine loads nothing of ${module}`);
    return name;
  }

  #long(): number {
    const bytes = [...this.#take(this.#byte())].reverse();
    return Number(bytes.reduce((value, byte) => value * 256n + BigInt(byte), 0n));
  }

  #sinceMark(): unknown[] {
    const from = this.#stack.lastIndexOf(MARK);
    if (from < 0) throw unreadable('no mark');
    const items = this.#stack.slice(from + 1);
    this.#stack.length = from;
    return items;
  }
}
