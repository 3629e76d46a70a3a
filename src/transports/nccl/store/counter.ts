import { MalformedRequest } from './protocol.js';

// C's strtoll in base 10: leading white space, a sign, digits; what follows is ignored (contracts/tcpstore.md §4).
const INTEGER = /^[ \t\n\v\f\r]*([+-]?\d+)/;
/** Longest text that is looked at: white space and digits beyond it are nobody's counter. */
const LONGEST = 256;

/** The integer that a stored value stands for when it is counted with; a missing key counts 0. @throws MalformedRequest */
export function readCounter(value: Uint8Array | undefined): bigint {
  if (value === undefined) return 0n;
  const text = Buffer.from(value.buffer, value.byteOffset, value.length).toString('latin1', 0, LONGEST);
  const digits = INTEGER.exec(text)?.[1];
  const count = digits === undefined ? null : BigInt(digits);
  if (count === null || count !== BigInt.asIntN(64, count)) {
    throw new MalformedRequest('the value under the key is no 64-bit integer');
  }
  return count;
}

/** Adds as int64 (the sum wraps) and gives the value as torch stores it: decimal ASCII. */
export function addCounter(
  value: Uint8Array | undefined,
  delta: bigint,
): { count: bigint; stored: Uint8Array } {
  const count = BigInt.asIntN(64, readCounter(value) + delta);
  return { count, stored: new TextEncoder().encode(String(count)) };
}
