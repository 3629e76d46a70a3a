/** The parameters of one worker, in device memory. */
import type { NativeCommunicator, NativeDeviceBuffer } from '../../native.js';
import { WorkerError } from '../server/transfer-info.js';
import { Fingerprint } from './fingerprint.js';
import type { Layout, Slice } from './layout.js';

/** Host memory for one copy. */
const PIECE_BYTES = 1 << 20;

/** Reads bytes of a whole checkpoint tensor, wherever it lies. */
export type TensorSource = (offset: number, byteLength: number) => Promise<Uint8Array>;

export class Parameters {
  readonly layout: Layout;
  readonly #buffers: ReadonlyMap<string, NativeDeviceBuffer>;
  readonly #digests = new Map<string, string>();
  readonly #architecture: string;
  /** Kept: a communicator that is collected takes its buffers with it. */
  readonly memory: NativeCommunicator;
  #fingerprint: readonly [number, number] | null = null;

  private constructor(
    memory: NativeCommunicator,
    layout: Layout,
    buffers: ReadonlyMap<string, NativeDeviceBuffer>,
    architecture: string,
  ) {
    this.memory = memory;
    this.layout = layout;
    this.#buffers = buffers;
    this.#architecture = architecture;
  }

  /** Takes memory for every parameter; padding is zero. */
  static async allocate(
    memory: NativeCommunicator,
    layout: Layout,
    architecture: string,
  ): Promise<Parameters> {
    const buffers = new Map<string, NativeDeviceBuffer>();
    for (const { name, byteLength, padded } of layout.parameters) {
      const buffer = await memory.allocate(byteLength);
      buffers.set(name, buffer);
      for (let at = 0; padded && at < byteLength; at += PIECE_BYTES) {
        await buffer.write(at, new Uint8Array(Math.min(PIECE_BYTES, byteLength - at)));
      }
    }
    return new Parameters(memory, layout, buffers, architecture);
  }

  /** What the model's weight loader would refuse. */
  requireLoadable(name: string, dtypeName: string, shape: readonly number[]): void {
    const expected = this.layout.tensors.get(name);
    if (expected === undefined) {
      throw new WorkerError(`There is no module or parameter named '${name}' in ${this.#architecture}`);
    }
    if (expected.shape.join() !== shape.join()) {
      throw new WorkerError(
        `Attempted to load weight (torch.Size([${shape.join(', ')}])) into parameter (torch.Size([${expected.shape.join(', ')}]))`,
      );
    }
    if (expected.dtypeName !== dtypeName) {
      throw new WorkerError(
        `a reference engine does not convert ${name} from torch.${dtypeName} to torch.${expected.dtypeName}`,
      );
    }
  }

  /** Copies what this worker holds of a tensor. */
  async store(name: string, source: TensorSource): Promise<void> {
    const slice = this.layout.slices.get(name);
    if (slice === null || slice === undefined) {
      return;
    }
    const buffer = this.#buffer(slice);
    this.#digests.delete(slice.parameter);
    this.#fingerprint = null;
    await this.#eachPiece(slice, slice.rowBytes, async (row, rows) => {
      const from = (slice.firstRow + row) * slice.rowBytes;
      const bytes = await source(from, rows * slice.rowBytes);
      await buffer.write(slice.targetOffset + row * slice.columnBytes, columnsOf(slice, bytes, rows));
    });
  }

  /** Replaces elements of a checkpoint tensor, by their flat indices, where this worker holds them. */
  async patch(name: string, { indices, values }: Elements): Promise<void> {
    const slice = this.layout.slices.get(name);
    if (slice === null || slice === undefined || indices.length === 0) {
      return;
    }
    const buffer = this.#buffer(slice);
    this.#digests.delete(slice.parameter);
    this.#fingerprint = null;
    const size = values.length / indices.length;
    const end = slice.targetOffset + slice.rows * slice.columnBytes;
    let piece: { readonly at: number; readonly bytes: Uint8Array } | null = null;
    for (const element of inOrder(indices)) {
      const target = targetOf(slice, (indices[element] as number) * size);
      if (target === null) continue;
      if (piece === null || target >= piece.at + piece.bytes.length) {
        if (piece !== null) await buffer.write(piece.at, piece.bytes);
        piece = { at: target, bytes: await buffer.read(target, Math.min(PIECE_BYTES, end - target)) };
      }
      piece.bytes.set(values.subarray(element * size, (element + 1) * size), target - piece.at);
    }
    if (piece !== null) await buffer.write(piece.at, piece.bytes);
  }

  /** Changes one bit of a parameter: a fault. */
  async corrupt(parameter: string): Promise<void> {
    const buffer = this.#buffers.get(parameter);
    if (buffer === undefined) {
      throw new WorkerError(`no parameter ${parameter} to corrupt`);
    }
    const [first = 0] = await buffer.read(0, 1);
    await buffer.write(0, Uint8Array.of(first ^ 1));
    this.#digests.delete(parameter);
    this.#fingerprint = null;
  }

  /** SHA-256 of every parameter, hex. */
  async digests(): Promise<ReadonlyMap<string, string>> {
    const digests = new Map<string, string>();
    for (const { name, byteLength } of this.layout.parameters) {
      let digest = this.#digests.get(name);
      if (digest === undefined) {
        const [sum] = (await this.#buffers.get(name)?.sha256([{ offset: 0, byteLength }])) ?? [];
        digest = Buffer.from(sum ?? []).toString('hex');
        this.#digests.set(name, digest);
      }
      digests.set(name, digest);
    }
    return digests;
  }

  /** This worker's part of the fingerprint; what every worker holds is added by `replicas` alone. */
  async fingerprint(replicas: boolean): Promise<readonly [number, number]> {
    if (this.#fingerprint !== null) {
      return this.#fingerprint;
    }
    const sum = new Fingerprint();
    for (const [name, slice] of this.layout.slices) {
      if (slice === null || (slice.replicated && !replicas)) {
        continue;
      }
      const buffer = this.#buffer(slice);
      await this.#eachPiece(slice, slice.columnBytes, async (row, rows) => {
        const at = slice.targetOffset + row * slice.columnBytes;
        sum.add(name, slice, slice.firstRow + row, await buffer.read(at, rows * slice.columnBytes));
      });
    }
    this.#fingerprint = sum.lanes;
    return sum.lanes;
  }

  #buffer(slice: Slice): NativeDeviceBuffer {
    const buffer = this.#buffers.get(slice.parameter);
    if (buffer === undefined) {
      throw new WorkerError(`no memory for ${slice.parameter}`);
    }
    return buffer;
  }

  async #eachPiece(
    slice: Slice,
    rowBytes: number,
    visit: (row: number, rows: number) => Promise<void>,
  ): Promise<void> {
    const step = Math.max(1, Math.floor(PIECE_BYTES / Math.max(rowBytes, 1)));
    if (rowBytes === 0 || slice.columnBytes === 0) {
      return;
    }
    for (let row = 0; row < slice.rows; row += step) {
      await visit(row, Math.min(step, slice.rows - row));
    }
  }
}

/** Changed elements of a tensor: value i is the element at the flat index i. */
export interface Elements {
  readonly indices: Int32Array;
  readonly values: Uint8Array;
}

/** Positions in the list, by ascending index. */
function inOrder(indices: Int32Array): Iterable<number> {
  if (indices.every((index, i) => i === 0 || index > (indices[i - 1] as number))) return indices.keys();
  return [...indices.keys()].sort((a, b) => (indices[a] as number) - (indices[b] as number));
}

/** Where a byte of the whole tensor lies in the parameter; null where this worker does not hold it. */
function targetOf(slice: Slice, byte: number): number | null {
  const row = Math.floor(byte / slice.rowBytes) - slice.firstRow;
  const column = (byte % slice.rowBytes) - slice.columnOffset;
  if (row < 0 || row >= slice.rows || column < 0 || column >= slice.columnBytes) return null;
  return slice.targetOffset + row * slice.columnBytes + column;
}

/** The slice's columns of whole rows, packed. */
function columnsOf(slice: Slice, bytes: Uint8Array, rows: number): Uint8Array {
  if (slice.columnBytes === slice.rowBytes) {
    return bytes;
  }
  const packed = new Uint8Array(rows * slice.columnBytes);
  for (let row = 0; row < rows; row += 1) {
    const from = row * slice.rowBytes + slice.columnOffset;
    packed.set(bytes.subarray(from, from + slice.columnBytes), row * slice.columnBytes);
  }
  return packed;
}
