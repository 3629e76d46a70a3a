/** Publication directories for tests. */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { type Manifest, readManifest } from '../../../../src/transports/filesystem/manifest.js';
import { openCheckpoint } from '../../../../src/weights/checkpoint.js';
import type { Tensor } from '../../../../src/weights/tensor.js';

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Digest of each tensor's bytes, read by hand. */
export async function bytesByName(tensors: readonly Tensor[]): Promise<Record<string, string>> {
  const files = new Map<string, Buffer>();
  const digests: Record<string, string> = {};
  for (const { name, dtype, shape, range } of tensors) {
    if (range.kind !== 'file') throw new Error('not in a file');
    const bytes = files.get(range.path) ?? (await readFile(range.path));
    files.set(range.path, bytes);
    const part = bytes.subarray(range.offset, range.offset + range.byteLength);
    digests[name] = `${dtype.name} ${shape.join()} ${sha256(part)}`;
  }
  return digests;
}

/** What a checkpoint holds, whatever its files. */
export async function weightsIn(path: string): Promise<Record<string, string>> {
  return bytesByName((await openCheckpoint(path)).tensors);
}

/** Reads every byte of a version and holds it against its manifest: nothing that it names may be missing or different. */
export async function requireWhole(step: string): Promise<Manifest> {
  const manifest = await readManifest(step);
  for (const { name, byteLength, sha256: digest } of manifest.files) {
    const bytes = await readFile(join(step, name));
    expect([name, bytes.length, sha256(bytes)]).toEqual([name, byteLength, digest]);
  }
  for (const shard of manifest.shards) {
    const bytes = await readFile(join(step, shard.name));
    expect(bytes.length).toBe(shard.byteLength);
    expect(sha256(bytes.subarray(0, shard.headerByteLength))).toBe(shard.headerSha256);
    for (const { name, offset, byteLength, sha256: digest } of shard.tensors) {
      if (digest !== null)
        expect([name, sha256(bytes.subarray(offset, offset + byteLength))]).toEqual([name, digest]);
    }
  }
  return manifest;
}

/** Everything in a directory, also what is hidden: relative paths, sorted; folders of ours that are always there are left out. */
export async function everythingIn(directory: string): Promise<readonly string[]> {
  const entries = await readdir(directory, { recursive: true });
  return entries.filter((entry) => entry !== '.weightcast').sort();
}
