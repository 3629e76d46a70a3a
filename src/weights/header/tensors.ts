import { DTYPE_LIST, type DType } from '../dtype.js';
import type { Tensor } from '../tensor.js';
import type { Steps } from '../yielding.js';
import type { HeaderColumns } from './columns.js';

const ROWS_PER_STEP = 256;
/** A power of two. */
const SHAPES_KEPT = 128;

export interface Placement {
  readonly path: string;
  /** Where the tensors' bytes begin. */
  readonly headerByteLength: number;
}

/** The tensors of a header as objects, in the order of their bytes. */
export function* tensorsOf(columns: HeaderColumns, placement: Placement): Steps<Tensor[]> {
  const { path, headerByteLength } = placement;
  const { begins, ends } = columns;
  const names = yield* namesOf(columns);
  const shapes = new Shapes(columns);
  const tensors: Tensor[] = [];
  for (const row of columns.order) {
    const begin = begins[row] as number;
    tensors.push({
      name: names[row] as string,
      dtype: DTYPE_LIST[columns.dtypes[row] as number] as DType,
      shape: shapes.of(row),
      range: {
        kind: 'file',
        path,
        offset: headerByteLength + begin,
        byteLength: (ends[row] as number) - begin,
      },
    });
    if (tensors.length % ROWS_PER_STEP === 0) yield;
  }
  return tensors;
}

/** A model has few different shapes: equal ones share an array where one was made lately. */
class Shapes {
  readonly #columns: HeaderColumns;
  readonly #made: (readonly number[])[] = new Array(SHAPES_KEPT).fill([]);

  constructor(columns: HeaderColumns) {
    this.#columns = columns;
  }

  of(row: number): readonly number[] {
    const { dimensions, dimensionEnds } = this.#columns;
    const from = row === 0 ? 0 : (dimensionEnds[row - 1] as number);
    const rank = (dimensionEnds[row] as number) - from;
    let hash = rank;
    for (let i = 0; i < rank; i += 1) hash = (Math.imul(hash, 31) + (dimensions[from + i] as number)) | 0;
    const slot = (hash ^ (hash >>> 7)) & (SHAPES_KEPT - 1);
    const made = this.#made[slot] as readonly number[];
    let same = made.length === rank;
    for (let i = 0; same && i < rank; i += 1) same = made[i] === dimensions[from + i];
    if (same) return made;
    const shape: number[] = [];
    for (let i = 0; i < rank; i += 1) shape.push(dimensions[from + i] as number);
    this.#made[slot] = shape;
    return shape;
  }
}

/** One decoding for many names, cut up afterwards: a call for each costs more than all else here. */
function* namesOf({ count, names, nameEnds }: HeaderColumns): Steps<string[]> {
  const bytes = Buffer.from(names.buffer, names.byteOffset, names.byteLength);
  const decoded: string[] = [];
  for (let first = 0; first < count; first += ROWS_PER_STEP) {
    const afterLast = Math.min(first + ROWS_PER_STEP, count);
    const from = first === 0 ? 0 : (nameEnds[first - 1] as number);
    const to = nameEnds[afterLast - 1] as number;
    const text = bytes.toString('utf8', from, to);
    // Only ASCII has a character for each byte.
    const isAscii = text.length === to - from;
    for (let row = first, start = from; row < afterLast; row += 1) {
      const end = nameEnds[row] as number;
      decoded.push(isAscii ? text.slice(start - from, end - from) : bytes.toString('utf8', start, end));
      start = end;
    }
    yield;
  }
  return decoded;
}
