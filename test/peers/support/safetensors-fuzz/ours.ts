/** Our verdict on a file, in the words of reference.py. */
import { crc32 } from 'node:zlib';
import {
  HeaderError,
  headerLength,
  LENGTH_BYTES,
  metadataOf,
  parseHeader,
  tensorsOf,
} from '../../../../src/weights/header.js';
import { runToEnd } from '../../../../src/weights/yielding.js';

/** `+` and all that is in the file, or `-` and why it was refused. @throws whatever else happened */
export function ourVerdict(file: Buffer): string {
  try {
    return `+${linesOf(file).sort().join('\n')}`;
  } catch (error) {
    if (error instanceof HeaderError) return `-${error.message}`;
    throw error;
  }
}

function linesOf(file: Buffer): string[] {
  if (file.length < LENGTH_BYTES) throw new HeaderError('too short for a header', null);
  const start = LENGTH_BYTES + headerLength(file.subarray(0, LENGTH_BYTES), file.length);
  const header = file.subarray(LENGTH_BYTES, start);
  const columns = runToEnd(parseHeader(header, file.length - start));
  const lines: string[] = [];
  for (const { name, dtype, shape, range } of runToEnd(
    tensorsOf(columns, { path: '/file', headerByteLength: start }),
  )) {
    if (range.kind !== 'file') throw new Error('a tensor of a file is a range of it');
    const data = file.subarray(range.offset, range.offset + range.byteLength);
    lines.push(line('T', name, `${dtype.name} [${shape.join(',')}] ${crc32(data)}`));
  }
  for (const [key, value] of runToEnd(metadataOf(header, columns))) lines.push(line('M', key, value));
  return lines;
}

/** As latin1, whose order is that of the bytes. */
function line(kind: string, name: string, rest: string): string {
  return Buffer.from(`${kind}${Buffer.byteLength(name)}:${name} ${rest}`).toString('latin1');
}
