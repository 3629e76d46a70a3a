/** Frames as the addon takes them: typed arrays instead of objects. */
import { WeightcastError } from '../errors.js';
import type { NativeDeviceBuffer, NativePlan } from '../native.js';
import type { ByteRange } from './tensor.js';

const FILE = 0;
const DEVICE = 1;
const HOST = 2;

interface FlatRange {
  readonly kind: 0 | 1 | 2;
  readonly source: number;
  readonly offset: number;
  byteLength: number;
}

/**
 * Flattens frames. Ranges that continue each other inside a frame become one, so that a chunk of neighbours in a file is read in one go;
 * empty ranges vanish, and a frame of 0 bytes has no range.
 *
 * @param files every file that a range names, with the size it must have when it is read
 * @throws WeightcastError WC_NATIVE_ARGUMENT when a range lies outside the files given
 */
export function flattenPlan(
  frames: readonly { readonly ranges: readonly ByteRange[] }[],
  files: readonly { readonly path: string; readonly byteLength: number }[],
  staging: Pick<NativePlan, 'slots' | 'slotBytes' | 'pieces' | 'pieceBytes'>,
): NativePlan {
  const fileIndex = new Map(files.map(({ path }, index) => [path, index]));
  const deviceIndex = new Map<object, number>();
  const hostParts: Uint8Array[] = [];
  let hostBytes = 0;
  const ranges: FlatRange[] = [];
  const frameRanges = new Uint32Array(frames.length);

  const flat = (range: ByteRange): FlatRange => {
    const { byteLength } = range;
    if (range.kind === 'host') {
      hostParts.push(range.bytes);
      hostBytes += byteLength;
      return { kind: HOST, source: 0, offset: hostBytes - byteLength, byteLength };
    }
    if (range.kind === 'device') {
      const source = deviceIndex.get(range.buffer) ?? deviceIndex.size;
      deviceIndex.set(range.buffer, source);
      return { kind: DEVICE, source, offset: range.offset, byteLength };
    }
    const source = fileIndex.get(range.path);
    if (source === undefined || range.offset + byteLength > (files[source]?.byteLength ?? 0)) {
      throw new WeightcastError(
        'WC_NATIVE_ARGUMENT',
        `bytes ${range.offset} to ${range.offset + byteLength} of ${range.path} are outside the checkpoint's files`,
      );
    }
    return { kind: FILE, source, offset: range.offset, byteLength };
  };

  for (const [index, frame] of frames.entries()) {
    const first = ranges.length;
    for (const range of frame.ranges) {
      if (range.byteLength === 0) continue;
      const next = flat(range);
      const last = ranges.length > first ? ranges.at(-1) : undefined;
      if (
        last?.kind === next.kind &&
        last.source === next.source &&
        last.offset + last.byteLength === next.offset
      ) {
        last.byteLength += next.byteLength;
      } else {
        ranges.push(next);
      }
    }
    frameRanges[index] = ranges.length - first;
  }

  return {
    files: files.map(({ path }) => path),
    fileSizes: Float64Array.from(files, ({ byteLength }) => byteLength),
    rangeKind: Uint8Array.from(ranges, ({ kind }) => kind),
    rangeSource: Uint32Array.from(ranges, ({ source }) => source),
    rangeOffset: Float64Array.from(ranges, ({ offset }) => offset),
    rangeLength: Float64Array.from(ranges, ({ byteLength }) => byteLength),
    frameRanges,
    deviceBuffers: [...deviceIndex.keys()] as NativeDeviceBuffer[],
    hostBytes: Buffer.concat(hostParts),
    slots: staging.slots,
    slotBytes: staging.slotBytes,
    pieces: staging.pieces,
    pieceBytes: staging.pieceBytes,
    root: 0,
  };
}
