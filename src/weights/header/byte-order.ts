import type { Steps } from '../yielding.js';
import type { Rows } from './columns.js';
import { HeaderError } from './error.js';

const ROWS_PER_STEP = 64;

/**
 * Follows the offsets from 0 to the end: no hole, no overlap, nothing left over. Linear, so that a hostile header costs no sort; files
 * whose header already lists the tensors in order (as the reference library writes them) cost no lookup either.
 *
 * @throws HeaderError
 */
export function* byteOrder(rows: Rows, dataBytes: number): Steps<Uint32Array<ArrayBuffer>> {
  const order = new Uint32Array(rows.count);
  const starting = new Map<number, number>();
  const empty = new Map<number, number[]>();
  let placed = 0;
  let position = 0;
  let steps = 0;
  for (; placed < rows.count && rows.begins[placed] === position; placed += 1) {
    if (++steps % ROWS_PER_STEP === 0) yield;
    order[placed] = placed;
    position = rows.ends[placed] as number;
  }
  if (yield* anyEmptyBefore(rows, placed, position)) {
    placed = 0;
    position = 0;
  }
  let last = placed - 1;
  for (let row = placed; row < rows.count; row += 1) {
    if (++steps % ROWS_PER_STEP === 0) yield;
    const begin = rows.begins[row] as number;
    if (begin === (rows.ends[row] as number)) {
      const others = empty.get(begin);
      if (others === undefined) empty.set(begin, [row]);
      else others.push(row);
    } else {
      const other = starting.get(begin);
      if (other !== undefined) throw overlap(rows, other, row);
      starting.set(begin, row);
    }
  }
  while (placed < rows.count) {
    if (++steps % ROWS_PER_STEP === 0) yield;
    const none = empty.get(position);
    if (none !== undefined) {
      for (const row of none) order[placed++] = row;
      empty.delete(position);
    }
    const row = starting.get(position);
    if (row === undefined) break;
    order[placed++] = row;
    position = rows.ends[row] as number;
    last = row;
  }
  if (placed < rows.count) throw yield* astray(rows, order.subarray(0, placed), { position, last });
  if (position !== dataBytes) {
    throw new HeaderError(
      `the tensors take ${position} bytes, but ${dataBytes} bytes follow the header`,
      last < 0 ? null : rows.names.at(last),
      { end: position, dataBytes },
    );
  }
  return order;
}

/** Whether a tensor of no bytes, which may be listed anywhere, belongs between those that were placed as they are listed. */
function* anyEmptyBefore(rows: Rows, from: number, position: number): Steps<boolean> {
  for (let row = from; row < rows.count; row += 1) {
    if (row % ROWS_PER_STEP === 0) yield;
    const begin = rows.begins[row] as number;
    if (begin < position && begin === rows.ends[row]) return true;
  }
  return false;
}

function* astray(
  rows: Rows,
  placed: Uint32Array,
  { position, last }: { readonly position: number; readonly last: number },
): Steps<HeaderError> {
  const isPlaced = new Uint8Array(rows.count);
  for (const row of placed) isPlaced[row] = 1;
  let nearest = -1;
  for (let row = 0; row < rows.count; row += 1) {
    if (row % ROWS_PER_STEP === 0) yield;
    if (
      isPlaced[row] === 0 &&
      (nearest < 0 || (rows.begins[row] as number) < (rows.begins[nearest] as number))
    )
      nearest = row;
  }
  const begin = rows.begins[nearest] as number;
  if (begin < position && last >= 0) return overlap(rows, last, nearest);
  const name = rows.names.at(nearest);
  return new HeaderError(
    `bytes ${position} to ${begin} belong to no tensor: ${JSON.stringify(name)} begins at ${begin}`,
    name,
    { begin, end: rows.ends[nearest] as number },
  );
}

function overlap(rows: Rows, a: number, b: number): HeaderError {
  const name = rows.names.at(b);
  const other = rows.names.at(a);
  const extent = (row: number) => `[${rows.begins[row]}, ${rows.ends[row]}]`;
  return new HeaderError(
    `tensors ${JSON.stringify(other)} ${extent(a)} and ${JSON.stringify(name)} ${extent(b)} overlap`,
    name,
    { begin: rows.begins[b], end: rows.ends[b], other },
  );
}
