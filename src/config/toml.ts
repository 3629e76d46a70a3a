/** TOML files that people write: small, and named in every complaint. */
import { open } from 'node:fs/promises';
import { parse, TomlError } from 'smol-toml';
import { WeightcastError } from '../errors.js';

const LARGEST_FILE = 1 << 20;

/** The text of a small file. @throws WeightcastError WC_CONFIG_INVALID */
export async function readBounded(path: string): Promise<string> {
  try {
    await using file = await open(path, 'r');
    const { size } = await file.stat().then((stat) => (stat.isFile() ? stat : Promise.reject(notAFile)));
    if (size > LARGEST_FILE)
      throw invalid(`${path}: ${size} bytes; a configuration has at most ${LARGEST_FILE}`);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(LARGEST_FILE), 0, LARGEST_FILE, 0);
    return new TextDecoder('utf-8', { fatal: true }).decode(buffer.subarray(0, bytesRead));
  } catch (cause) {
    if (cause instanceof WeightcastError) throw cause;
    throw invalid(
      `${path}: cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`,
      cause,
    );
  }
}

const notAFile = new Error('not a regular file');

/** @throws WeightcastError WC_CONFIG_INVALID with line and column */
export function parseToml(text: string, path: string): unknown {
  try {
    return parse(text, { maxDepth: 16, unsafeKeyBehaviour: 'throw' });
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    const reason = cause.message.split('\n', 1)[0] ?? '';
    throw invalid(`${path}:${cause.line}:${cause.column}: ${reason}`, cause);
  }
}

function invalid(message: string, cause?: unknown): WeightcastError {
  return new WeightcastError('WC_CONFIG_INVALID', message, { cause });
}
