/**
 * JSON with whole numbers beyond 2^53: Dynamo's instance ids are u64, and JSON.parse would give two workers the same one. Such numbers are bigints here, and are
 * written as they were read.
 */
import { randomUUID } from 'node:crypto';

/** Sixteen digits and more may not fit; a fraction or an exponent is a float in any case. */
const LONG = /\d{16}/;
const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
/** As many digits as a u64 has at most: longer ones are nobody's id, and a megabyte of digits would take seconds to convert. */
const WHOLE = /^-?\d{16,20}$/;

/**
 * JSON.parse, but whole numbers of up to twenty digits that a double can't hold come as bigints.
 *
 * @example parseBigJson('{"instance_id":12133735542955933045}') // { instance_id: 12133735542955933045n }
 * @throws SyntaxError as JSON.parse does
 */
export function parseBigJson(text: string): unknown {
  const plain: unknown = JSON.parse(text);
  if (!LONG.test(text)) return plain;
  const mark = unusedMark();
  const marked = text.replace(TOKEN, (token) => (isTooLong(token) ? `"${mark}${token}"` : token));
  return JSON.parse(marked, (_, value: unknown) =>
    typeof value === 'string' && value.startsWith(mark) ? BigInt(value.slice(mark.length)) : value,
  );
}

/** JSON.stringify for data with bigints; whatever JSON.stringify drops is dropped. */
export function stringifyBigJson(value: unknown): string {
  if (typeof value === 'bigint') return value.toString();
  if (Array.isArray(value)) return `[${value.map(stringifyBigJson).join(',')}]`;
  if (typeof value === 'object' && value !== null) {
    const members = Object.entries(value).filter(([, member]) => member !== undefined);
    return `{${members.map(([key, member]) => `${JSON.stringify(key)}:${stringifyBigJson(member)}`).join(',')}}`;
  }
  return JSON.stringify(value) ?? 'null';
}

function isTooLong(token: string): boolean {
  return WHOLE.test(token) && !Number.isSafeInteger(Number(token));
}

/** A prefix that no string of the document has: drawn, since one that can be guessed can also be written by escapes (\u0023). */
function unusedMark(): string {
  return `#${randomUUID()}#`;
}
