/** What must be true of a manifest beyond the types of its members. */
import { DTYPES } from '../../weights/dtype.js';
import type { Steps } from '../../weights/yielding.js';
import { MANIFEST_NAME, nonceOfStepOwner } from './layout.js';
import {
  type Manifest,
  type ManifestShard,
  type ManifestTensor,
  tensorsOfManifest,
} from './manifest-types.js';
import { type DigestedTensor, isPublishableName, versionDigestSteps } from './version-digest.js';

const TENSORS_PER_STEP = 256;
const LENGTH_PREFIX = 8;
const MAX_NAME_BYTES = 255;
/** Not of the version: written by the publisher or the engines' side around it. */
const RESERVED = new Set(['.', '..', MANIFEST_NAME, 'STABLE']);

export class ManifestError extends Error {}

/** @throws ManifestError */
export function* checkManifest(manifest: Manifest): Steps<void> {
  checkKind(manifest);
  checkFileNames(manifest);
  for (const shard of manifest.shards) yield* checkShard(shard);
  const tensors = tensorsOfManifest(manifest);
  const names = new Set<string>();
  let total = 0;
  for (const tensor of tensors) {
    checkTensor(tensor, manifest);
    names.add(tensor.name);
    total += tensor.byteLength;
    if (names.size % TENSORS_PER_STEP === 0) yield;
  }
  if (names.size < tensors.length) throw new ManifestError('two tensors have the same name');
  if (total !== manifest.totalBytes) {
    throw new ManifestError(`total_size is ${manifest.totalBytes}, its tensors have ${total} bytes`);
  }
  if (manifest.digest === null) return;
  const digest = yield* versionDigestSteps(tensors as readonly DigestedTensor[]);
  if (digest !== manifest.digest) throw new ManifestError(`its digest is not that of its tensors, ${digest}`);
}

function checkKind({ kind, base, shards, tensors, digest, digestAlgorithm }: Manifest): void {
  const isDelta = kind === 'delta';
  if (isDelta !== (base !== null))
    throw new ManifestError(`${kind}: base is ${base === null ? 'null' : 'given'}`);
  if (isDelta !== (tensors !== null))
    throw new ManifestError(`${kind}: tensors is ${tensors === null ? 'missing' : 'given'}`);
  if (isDelta !== (shards.length === 0)) throw new ManifestError(`${kind}: ${shards.length} shards`);
  if (isDelta && digestAlgorithm === 'none') throw new ManifestError('a delta without digests');
  if ((digest === null) !== (digestAlgorithm === 'none')) {
    throw new ManifestError(`digest_algorithm is ${digestAlgorithm}, digest ${digest ?? 'null'}`);
  }
}

function checkFileNames({ shards, files }: Manifest): void {
  const seen = new Set<string>();
  for (const { name } of [...shards, ...files]) {
    if (!isFileName(name)) throw new ManifestError(`${JSON.stringify(name)} can't be a file of a version`);
    if (seen.has(name)) throw new ManifestError(`two files are called ${name}`);
    seen.add(name);
  }
}

/** False for what would leave the folder or stand for something else in it. */
export function isFileName(name: string): boolean {
  return (
    isPublishableName(name) &&
    !/[/\\]/.test(name) &&
    Buffer.byteLength(name) <= MAX_NAME_BYTES &&
    !RESERVED.has(name) &&
    nonceOfStepOwner(name) === null
  );
}

function* checkShard({ name, byteLength, headerByteLength, tensors }: ManifestShard): Steps<void> {
  if (headerByteLength < LENGTH_PREFIX)
    throw new ManifestError(`${name}: a header of ${headerByteLength} bytes`);
  let end = headerByteLength;
  for (const [index, tensor] of tensors.entries()) {
    if (tensor.offset !== end) {
      throw new ManifestError(`${name}: tensor ${tensor.name} begins at ${tensor.offset}, not at ${end}`);
    }
    end += tensor.byteLength;
    if (index % TENSORS_PER_STEP === 0) yield;
  }
  if (end !== byteLength)
    throw new ManifestError(`${name}: ${byteLength} bytes, and its tensors end at ${end}`);
}

function checkTensor({ name, dtype, shape, byteLength, sha256 }: ManifestTensor, manifest: Manifest): void {
  if (!isPublishableName(name))
    throw new ManifestError(`${JSON.stringify(name)} can't be the name of a tensor`);
  const bits = shape.reduce(
    (product, dimension) => product * dimension,
    DTYPES.get(dtype)?.bits ?? Number.NaN,
  );
  if (bits !== 8 * byteLength) {
    throw new ManifestError(
      `tensor ${name}: ${dtype} [${shape.join(', ')}] does not have ${byteLength} bytes`,
    );
  }
  if ((sha256 === null) !== (manifest.digestAlgorithm === 'none')) {
    throw new ManifestError(`tensor ${name}: sha256 is ${sha256 === null ? 'missing' : 'given'}`);
  }
}
