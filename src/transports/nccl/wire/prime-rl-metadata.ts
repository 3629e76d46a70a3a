/**
 * The metadata of one state dict as Python's pickle: `dict[torch.dtype, list[tuple[name, shape, numel]]]`, in the order of the bytes (contracts/prime-rl.md 3
 * and 3.1). The worker loads it with a bare `pickle.loads`; what is written here names nothing but the dtypes.
 */
import type { Tensor } from '../../../weights/tensor.js';

/** Tensors of one dtype; together one broadcast. */
export interface DtypeGroup {
  /** Attribute of the torch module. */
  readonly torchName: string;
  readonly tensors: readonly Tensor[];
}

const PROTO_2 = [0x80, 0x02];
const EMPTY_DICT = 0x7d;
const EMPTY_LIST = 0x5d;
const MARK = 0x28;
const GLOBAL = 0x63;
const BINUNICODE = 0x58;
const BININT1 = 0x4b;
const BININT2 = 0x4d;
const BININT = 0x4a;
const LONG1 = 0x8a;
const TUPLE = 0x74;
const APPENDS = 0x65;
const SETITEMS = 0x75;
const STOP = 0x2e;

/** An int takes at most: LONG1, a length, 8 bytes. */
const INT_BYTES = 10;

/** The pickle, in protocol 2; a dict without groups is `{}`. */
export function pickleMetadata(groups: readonly DtypeGroup[]): Uint8Array {
  const pickle = new Writer();
  pickle.bytes(...PROTO_2, EMPTY_DICT);
  if (groups.length > 0) {
    pickle.bytes(MARK);
    for (const { torchName, tensors } of groups) {
      pickle.bytes(GLOBAL);
      pickle.text(`torch\n${torchName}\n`);
      pickle.bytes(EMPTY_LIST, MARK);
      for (const { name, shape } of tensors) pickle.tensor(name, shape);
      pickle.bytes(APPENDS);
    }
    pickle.bytes(SETITEMS);
  }
  pickle.bytes(STOP);
  return pickle.end();
}

/** A buffer that grows. */
class Writer {
  #buffer = Buffer.allocUnsafe(4096);
  #length = 0;

  bytes(...values: readonly number[]): void {
    this.#room(values.length);
    for (const value of values) this.#buffer[this.#length++] = value;
  }

  /** As it is, in UTF-8. */
  text(value: string): void {
    this.#room(3 * value.length);
    this.#length += this.#buffer.write(value, this.#length, 'utf8');
  }

  tensor(name: string, shape: readonly number[]): void {
    this.bytes(MARK, BINUNICODE);
    this.#room(4 + 3 * name.length);
    const byteLength = this.#buffer.write(name, this.#length + 4, 'utf8');
    this.#buffer.writeUInt32LE(byteLength, this.#length);
    this.#length += 4 + byteLength;
    this.bytes(MARK);
    for (const extent of shape) this.#int(extent);
    this.bytes(TUPLE);
    this.#int(shape.reduce((product, extent) => product * extent, 1));
    this.bytes(TUPLE);
  }

  end(): Uint8Array {
    return Uint8Array.prototype.slice.call(this.#buffer, 0, this.#length);
  }

  /** A safe integer that is not negative. */
  #int(value: number): void {
    this.#room(INT_BYTES);
    if (value < 0x100) {
      this.bytes(BININT1, value);
    } else if (value < 0x1_0000) {
      this.bytes(BININT2, value & 0xff, value >> 8);
    } else if (value < 2 ** 31) {
      this.bytes(BININT);
      this.#length = this.#buffer.writeInt32LE(value, this.#length);
    } else {
      // Two's complement; 8 bytes hold every safe integer, and leading zeros are allowed.
      this.bytes(LONG1, 8);
      this.#length = this.#buffer.writeBigInt64LE(BigInt(value), this.#length);
    }
  }

  #room(byteLength: number): void {
    if (this.#length + byteLength <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(2 * (this.#length + byteLength));
    this.#buffer.copy(larger, 0, 0, this.#length);
    this.#buffer = larger;
  }
}
