/** The digests that a manifest has of whole tensors, for those who would hash the same bytes. */
import { basename } from 'node:path';
import type { Steps } from '../../../weights/yielding.js';
import type { Manifest } from '../manifest.js';

/** SHA-256, hexadecimal, of `byteLength` bytes at `offset` of a file; null where nobody has said it. */
export type KnownDigests = (path: string, offset: number, byteLength: number) => string | null;

const TENSORS_PER_STEP = 1024;

/** By file name and place: what a checkpoint says of the same bytes must have been held against the manifest before (requireAgreement). */
export function* knownDigestSteps({ shards }: Manifest): Steps<KnownDigests> {
  const known = new Map<string, string>();
  let looked = 0;
  for (const { name, tensors } of shards) {
    for (const { offset, byteLength, sha256 } of tensors) {
      if (sha256 !== null) known.set(keyOf(name, offset, byteLength), sha256);
      if (++looked % TENSORS_PER_STEP === 0) yield;
    }
  }
  return (path, offset, byteLength) => known.get(keyOf(basename(path), offset, byteLength)) ?? null;
}

function keyOf(name: string, offset: number, byteLength: number): string {
  return `${offset}:${byteLength}:${name}`;
}
