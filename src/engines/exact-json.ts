/** JSON whose integers keep every digit: Dynamo names workers by random u64 (contracts/dynamo.md, rule 9), and JSON.parse rounds beyond 2^53. */
import { randomUUID } from 'node:crypto';

/**
 * A string, skipped, or an integer that may be too large for a number: as JSON has them, so that nothing inside a string is taken for one. A string that does not
 * end is taken to the end, or every quote in it would be a new beginning.
 */
const STRING_OR_LARGE_INTEGER = /"[^"\\]*(?:\\.[^"\\]*)*"?|(?<![\d.eE+-])-?[1-9]\d{15,}(?![\d.eE]|\s*:)/gs;

/**
 * As JSON.parse, but integers that a number can't hold exactly are BigInt. Bound the text before.
 *
 * @example parseExactJson('{"id":12133735542955933045}') // { id: 12133735542955933045n }
 * @throws SyntaxError
 */
export function parseExactJson(text: string): unknown {
  // Nobody who wrote the text can know it.
  const mark = randomUUID();
  const marked = text.replace(STRING_OR_LARGE_INTEGER, (token) =>
    token.startsWith('"') || Number.isSafeInteger(Number(token)) ? token : `"${mark}${token}"`,
  );
  if (marked === text) return JSON.parse(text) as unknown;
  return JSON.parse(marked, (_, value: unknown) =>
    typeof value === 'string' && value.startsWith(mark) ? BigInt(value.slice(mark.length)) : value,
  ) as unknown;
}
