/** The identity of weights: the same however they are cut into files, in full or as a delta. */
import { createHash } from 'node:crypto';
import type { Steps } from '../../weights/yielding.js';

const LINES_PER_STEP = 1024;
/** A name with a tab or a line feed could make two different lists of tensors read the same. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what this finds
const CONTROL = /[\u0000-\u001f\u007f]/;

export interface DigestedTensor {
  readonly name: string;
  /** Name in a safetensors header. */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Of its bytes, hexadecimal. */
  readonly sha256: string;
}

/** False for a name that no publication can carry. */
export function isPublishableName(name: string): boolean {
  return name.length > 0 && !CONTROL.test(name);
}

/**
 * SHA-256, hexadecimal, over one line `name <tab> dtype <tab> dimensions with commas <tab> sha256 <line feed>` for each tensor, the lines sorted by their
 * bytes. Names must be publishable.
 */
export function* versionDigestSteps(tensors: Iterable<DigestedTensor>): Steps<string> {
  const lines: string[] = [];
  let ascii = true;
  for (const { name, dtype, shape, sha256 } of tensors) {
    lines.push(`${name}\t${dtype}\t${shape.join(',')}\t${sha256}\n`);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: all of ASCII
    ascii &&= /^[\u0000-\u007f]*$/.test(name);
    if (lines.length % LINES_PER_STEP === 0) yield;
  }
  yield;
  // UTF-16 units sort as bytes do only while there are no surrogates.
  if (ascii) lines.sort();
  else lines.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const hash = createHash('sha256');
  for (const [index, line] of lines.entries()) {
    hash.update(line);
    if (index % LINES_PER_STEP === 0) yield;
  }
  return hash.digest('hex');
}
