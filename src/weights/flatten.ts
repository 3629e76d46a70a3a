/** Frames as the addon takes them: typed arrays instead of objects. */
import { WeightcastError } from '../errors.js';
import type { NativeDeviceBuffer, NativePlan } from '../native.js';
import type { ByteRange, FileRange } from './tensor.js';
import { runToEnd, type Steps } from './yielding.js';

const FILE = 0;
const DEVICE = 1;
const HOST = 2;
const RANGES_PER_STEP = 2048;

type Frames = readonly { readonly ranges: readonly ByteRange[] }[];
type Files = readonly { readonly path: string; readonly byteLength: number }[];
type StagingSizes = Pick<NativePlan, 'slots' | 'slotBytes' | 'pieces' | 'pieceBytes'>;

/**
 * Flattens frames. Ranges that continue each other inside a frame become one, so that a chunk of neighbours in a file is read in one go;
 * empty ranges vanish, and a frame of 0 bytes has no range.
 *
 * @param files every file that a range names, with the size it must have when it is read
 * @throws WeightcastError WC_NATIVE_ARGUMENT when a range lies outside the files given
 */
export function flattenPlan(frames: Frames, files: Files, staging: StagingSizes): NativePlan {
  return runToEnd(flattenSteps(frames, files, staging));
}

/** The same, to be run in slices. */
export function* flattenSteps(frames: Frames, files: Files, staging: StagingSizes): Steps<NativePlan> {
  const sources = new Sources(files);
  const ranges = new FlatRanges(frames.reduce((sum, frame) => sum + frame.ranges.length, 0));
  const frameRanges = new Uint32Array(frames.length);
  let index = 0;
  let since = 0;
  for (const frame of frames) {
    const first = ranges.count;
    for (const range of frame.ranges) {
      if (++since % RANGES_PER_STEP === 0) yield;
      if (range.byteLength === 0) continue;
      if (range.kind === 'file') {
        ranges.add(first, FILE, sources.file(range), range.offset, range.byteLength);
      } else if (range.kind === 'device') {
        ranges.add(first, DEVICE, sources.device(range.buffer), range.offset, range.byteLength);
      } else {
        ranges.add(first, HOST, 0, sources.host(range.bytes, range.byteLength), range.byteLength);
      }
    }
    frameRanges[index++] = ranges.count - first;
    if (++since % RANGES_PER_STEP === 0) yield;
  }
  return {
    files: files.map(({ path }) => path),
    fileSizes: Float64Array.from(files, ({ byteLength }) => byteLength),
    ...ranges.columns(),
    frameRanges,
    deviceBuffers: sources.deviceBuffers,
    hostBytes: sources.hostBytes(),
    slots: staging.slots,
    slotBytes: staging.slotBytes,
    pieces: staging.pieces,
    pieceBytes: staging.pieceBytes,
    root: 0,
  };
}

/** The ranges as columns; neighbours are joined as they come. */
class FlatRanges {
  readonly #kind: Uint8Array<ArrayBuffer>;
  readonly #source: Uint32Array<ArrayBuffer>;
  readonly #offset: Float64Array<ArrayBuffer>;
  readonly #length: Float64Array<ArrayBuffer>;
  count = 0;

  constructor(most: number) {
    this.#kind = new Uint8Array(most);
    this.#source = new Uint32Array(most);
    this.#offset = new Float64Array(most);
    this.#length = new Float64Array(most);
  }

  /** @param first range of the same frame */
  add(first: number, kind: number, source: number, offset: number, byteLength: number): void {
    const last = this.count - 1;
    if (last >= first && this.#kind[last] === kind && this.#source[last] === source) {
      const length = this.#length[last] as number;
      if ((this.#offset[last] as number) + length === offset) {
        this.#length[last] = length + byteLength;
        return;
      }
    }
    const next = this.count++;
    this.#kind[next] = kind;
    this.#source[next] = source;
    this.#offset[next] = offset;
    this.#length[next] = byteLength;
  }

  columns(): Pick<NativePlan, 'rangeKind' | 'rangeSource' | 'rangeOffset' | 'rangeLength'> {
    return {
      rangeKind: this.#kind.slice(0, this.count),
      rangeSource: this.#source.slice(0, this.count),
      rangeOffset: this.#offset.slice(0, this.count),
      rangeLength: this.#length.slice(0, this.count),
    };
  }
}

/** What ranges lie in, by number. */
class Sources {
  readonly #files: Files;
  readonly #fileIndex: ReadonlyMap<string, number>;
  readonly #deviceIndex = new Map<object, number>();
  readonly #hostParts: Uint8Array[] = [];
  #hostBytes = 0;
  #path: string | null = null;
  #file = -1;

  constructor(files: Files) {
    this.#files = files;
    this.#fileIndex = new Map(files.map(({ path }, index) => [path, index]));
  }

  get deviceBuffers(): NativeDeviceBuffer[] {
    return [...this.#deviceIndex.keys()] as NativeDeviceBuffer[];
  }

  hostBytes(): Buffer {
    return Buffer.concat(this.#hostParts);
  }

  file({ path, offset, byteLength }: FileRange): number {
    if (path !== this.#path) {
      this.#path = path;
      this.#file = this.#fileIndex.get(path) ?? -1;
    }
    if (offset + byteLength > (this.#files[this.#file]?.byteLength ?? -1)) {
      throw new WeightcastError(
        'WC_NATIVE_ARGUMENT',
        `bytes ${offset} to ${offset + byteLength} of ${path} are outside the checkpoint's files`,
      );
    }
    return this.#file;
  }

  device(buffer: object): number {
    const known = this.#deviceIndex.get(buffer) ?? this.#deviceIndex.size;
    this.#deviceIndex.set(buffer, known);
    return known;
  }

  /** Its place among the host bytes. */
  host(bytes: Uint8Array, byteLength: number): number {
    this.#hostParts.push(bytes);
    this.#hostBytes += byteLength;
    return this.#hostBytes - byteLength;
  }
}
