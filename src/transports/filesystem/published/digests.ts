/** The bytes of a version, held against the digests of its manifest. */
import { createHash, randomInt } from 'node:crypto';
import { join } from 'node:path';
import { native } from '../../../native.js';
import { digestAt, jobResult } from '../../../native-job.js';
import { rangesJob } from '../../../weights/ranges-job.js';
import type { Manifest } from '../manifest.js';
import { corrupt } from './files.js';

const EMPTY = createHash('sha256').digest('hex');
/** A sample has one tensor in so many, and no fewer than this. */
const SAMPLE = { oneIn: 16, atLeast: 8 };

export interface Digested {
  /** For errors: a tensor's name, or which part of the file. */
  readonly what: string;
  /** Relative to the folder. */
  readonly path: string;
  readonly offset: number;
  readonly byteLength: number;
  readonly sha256: string;
}

/** What the manifest has digests of: headers, files, and tensors, which are all or some of them, drawn anew each time. */
export function digestedRanges(manifest: Manifest, amount: 'all' | 'sample'): readonly Digested[] {
  const headers = manifest.shards.map(
    ({ name, headerByteLength, headerSha256 }): Digested => ({
      ...{ what: 'its header', path: name, offset: 0, byteLength: headerByteLength, sha256: headerSha256 },
    }),
  );
  const files = manifest.files.map(
    ({ name, byteLength, sha256 }): Digested => ({
      ...{ what: 'the file', path: name, offset: 0, byteLength, sha256 },
    }),
  );
  const tensors = manifest.shards.flatMap((shard) =>
    shard.tensors.flatMap(({ name, offset, byteLength, sha256 }): readonly Digested[] =>
      sha256 === null ? [] : [{ what: `tensor ${name}`, path: shard.name, offset, byteLength, sha256 }],
    ),
  );
  return [...headers, ...files, ...(amount === 'all' ? tensors : drawn(tensors))];
}

function drawn(tensors: readonly Digested[]): readonly Digested[] {
  const left = [...tensors];
  const wanted = Math.min(left.length, Math.max(SAMPLE.atLeast, Math.ceil(left.length / SAMPLE.oneIn)));
  return Array.from({ length: wanted }, () => left.splice(randomInt(left.length), 1)[0] as Digested);
}

export interface DigestCheck {
  readonly signal: AbortSignal | null;
  readonly onProgress?: ((bytes: number, totalBytes: number) => void) | undefined;
}

/**
 * Hashes the ranges of files in a folder, off the event loop.
 *
 * @throws WeightcastError WC_VERSION_CORRUPT naming the first that is not what it should be; WC_FILE_READ
 */
export async function requireDigests(
  folder: string,
  ranges: readonly Digested[],
  { signal, onProgress }: DigestCheck,
): Promise<void> {
  const empty = ranges.find(({ byteLength, sha256 }) => byteLength === 0 && sha256 !== EMPTY);
  if (empty !== undefined) throw mismatch(folder, empty, EMPTY);
  const filled = ranges.filter(({ byteLength }) => byteLength > 0);
  if (filled.length === 0) return;
  const totalBytes = filled.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const found = await jobResult(
    () => native().sha256(rangesJob(filled, folder), (bytes) => onProgress?.(bytes, totalBytes)),
    signal,
    'WC_FILE_READ',
  );
  for (const [index, range] of filled.entries()) {
    const digest = digestAt(found, index);
    if (digest !== range.sha256) throw mismatch(folder, range, digest);
  }
}

function mismatch(folder: string, { what, path, sha256 }: Digested, found: string): Error {
  const facts = { expected: sha256, found, bytes: true };
  return corrupt(
    join(folder, path),
    `${what} has the digest ${found}, and the manifest says ${sha256}`,
    facts,
  );
}
