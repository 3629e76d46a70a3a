/** The quick way through a header: by the addon, on a thread of its own. */
import { type Binding, native } from '../../native.js';
import { DTYPE_LIST } from '../dtype.js';
import { tensorsAt } from '../header.js';
import { runInSlices } from '../yielding.js';
import type { HeaderColumns } from './columns.js';

const DTYPES = {
  dtypes: DTYPE_LIST.map(({ name }) => name),
  dtypeBits: Uint8Array.from(DTYPE_LIST, ({ bits }) => bits),
};

/**
 * Reads a header that has the form in which the reference library writes it. null where it has another, where anything is wrong with
 * it, and where there is no addon: what it is then, parseHeader says.
 *
 * @throws the signal's reason
 */
export async function scanHeader(
  header: Buffer,
  dataBytes: number,
  signal: AbortSignal | null,
): Promise<HeaderColumns | null> {
  const addon = addonIfPresent();
  if (addon === null) return null;
  const start = await runInSlices(tensorsAt(header), signal);
  if (start === null) return null;
  const { from, metadataAt } = start;
  // It fails where the system has no thread or no memory left.
  const found = await addon.scanHeader({ header, from, dataBytes, ...DTYPES }).catch(() => null);
  signal?.throwIfAborted();
  return found === null ? null : { ...found, order: rowsInOrder(found.count), metadataAt };
}

function addonIfPresent(): Binding | null {
  try {
    return native();
  } catch {
    return null;
  }
}

function rowsInOrder(count: number): Uint32Array<ArrayBuffer> {
  const order = new Uint32Array(count);
  for (let row = 0; row < count; row += 1) order[row] = row;
  return order;
}
