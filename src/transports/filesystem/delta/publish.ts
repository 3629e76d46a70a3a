/** Publishes a version as what changed against the one before. */
import { resolve } from 'node:path';
import { WeightcastError } from '../../../errors.js';
import { type EncodeDeltaJob, NO_BASE, native } from '../../../native.js';
import { digestAt, jobResult } from '../../../native-job.js';
import { runInSlices } from '../../../weights/yielding.js';
import type { Manifest, ManifestTensor } from '../manifest.js';
import { readCompanion, sha256Of } from '../publish/companions.js';
import { openDraft } from '../publish/draft.js';
import type { Publication, PublishOptions } from '../publish/publish.js';
import { smallFiles } from '../publish/small-files.js';
import type { OpenedSource } from '../publish/source.js';
import { requireSpace } from '../publish/space.js';
import { versionDigestSteps } from '../version-digest.js';
import { type BaseTensor, type DeltaBase, digestsOf } from './base.js';
import { DELTA_NOTE_NAME, deltaName } from './names.js';
import { baseOf, byName, elementBytesOf } from './pairs.js';

interface FileTensor extends Omit<ManifestTensor, 'sha256'> {
  readonly path: string;
  readonly offset: number;
}

const NO_ZSTD =
  'libzstd is not installed here: the changes are stored uncompressed, which takes about a third more; readers need no libzstd for them. Install libzstd1 ' +
  '(libzstd), or set WEIGHTCAST_ZSTD_LIBRARY to the path of libzstd.so.1';
/** Of the index (docs/delta-format.md). */
const BLOCK_BYTES = 2 ** 20;
const INDEX_BYTES = { entry: 16, block: 8 };

/**
 * Publishes `from` as a delta of `base`. Without libzstd the changes are stored as they are, which takes about a third more.
 *
 * @throws WeightcastError as `publish` does; WC_CONFIG_INVALID for weights that lie in no file
 */
export async function publishDelta(
  from: OpenedSource,
  base: DeltaBase,
  options: PublishOptions,
): Promise<Publication> {
  const { version, commit = 'rename', fsync = true, signal = null, onProgress } = options;
  const next = from.tensors.map(({ name, dtype, shape, range }): FileTensor => {
    if (range.kind === 'file') {
      return {
        name,
        dtype: dtype.name,
        shape,
        byteLength: range.byteLength,
        path: range.path,
        offset: range.offset,
      };
    }
    throw new WeightcastError('WC_CONFIG_INVALID', `tensor ${name}: a delta is made of weights in files`);
  });
  const totalBytes = next.reduce((sum, { byteLength }) => sum + byteLength, 0);
  await using draft = await openDraft({
    ...{
      directory: resolve(options.directory),
      version,
      mode: commit,
      sync: fsync,
      graceMs: options.graceMs,
    },
  });
  const codec = native().zstd() === null ? 'none' : 'zstd';
  if (codec === 'none') options.onNote?.(NO_ZSTD);
  const known = byName(base.tensors);
  const bases = next.map((tensor) => baseOf(tensor, known));
  await requireSpace(options.directory, { files: [leastBytes(next, bases)], tensors: next.length });
  const { files, write } = smallFiles(draft, signal);
  const name = deltaName(draft.nameNonce);
  await write(DELTA_NOTE_NAME, noteOf(name, codec, base));
  const before = byName(base.manifest.files);
  for (const companion of from.companions) {
    const bytes = await readCompanion(companion);
    if (before.get(companion.name)?.sha256 !== sha256Of(bytes)) await write(companion.name, bytes);
  }
  const started = performance.now();
  const job = encodeJob(next, { from, base, bases, deltaPath: draft.path(name), codec, sync: fsync });
  const encoded = await jobResult(
    () =>
      native().encodeDelta(job, onProgress === undefined ? null : (bytes) => onProgress(bytes, totalBytes)),
    signal,
    'WC_FILE_WRITE',
  );
  files.push({ name, byteLength: encoded.byteLength, sha256: digestAt(encoded.digest, 0) });
  const digests = await digestsOf(next, signal);
  await from.requireUnchanged();
  const tensors = next.map(
    ({ path: _path, offset: _offset, ...facts }, i): ManifestTensor & { readonly sha256: string } => {
      return { ...facts, sha256: digests[i] as string };
    },
  );
  signal?.throwIfAborted();
  const manifest: Manifest = {
    ...{
      version,
      kind: 'delta',
      base: { version: base.version, digest: base.digest },
      digestAlgorithm: 'sha256',
    },
    digest: await runInSlices(versionDigestSteps(tensors), signal),
    totalBytes,
    created: new Date().toISOString(),
    publisher: draft.publisher,
    ...{ shards: [], files, tensors },
  };
  const path = await draft.commit(manifest);
  const byteLength = files.reduce((sum, file) => sum + file.byteLength, 0);
  const stats = {
    ...{ targets: 1, bytes: byteLength, elapsedMs: performance.now() - started },
    ...{ readMs: 0, hashMs: 0, writeMs: 0, syncMs: 0 },
  };
  return { version, path, manifest, byteLength, swept: draft.swept, stats };
}

/** How little a delta can have: what is based on nothing is stored whole. How much changed is known only once it is encoded. */
function leastBytes(next: readonly FileTensor[], bases: readonly unknown[]): number {
  const bytes = next.map(({ byteLength }, i) => {
    const index = INDEX_BYTES.entry + INDEX_BYTES.block * Math.ceil(byteLength / BLOCK_BYTES);
    return index + (bases[i] === null ? byteLength : 0);
  });
  return bytes.reduce((sum, each) => sum + each, 0);
}

function noteOf(file: string, codec: string, { version, digest }: DeltaBase): Buffer {
  const note = { format: 'weightcast-delta', format_version: 1, file, codec, base: { version, digest } };
  return Buffer.from(`${JSON.stringify(note, null, 2)}\n`);
}

interface Encoding extends Pick<EncodeDeltaJob, 'deltaPath' | 'codec' | 'sync'> {
  readonly from: OpenedSource;
  readonly base: DeltaBase;
  /** Of each tensor. */
  readonly bases: readonly (BaseTensor | null)[];
}

function encodeJob(
  next: readonly FileTensor[],
  { from, base, bases, deltaPath, codec, sync }: Encoding,
): EncodeDeltaJob {
  const sizes = new Map([...base.files, ...from.files].map(({ path, byteLength }) => [path, byteLength]));
  const files = [...sizes.keys()];
  const index = new Map(files.map((path, i) => [path, i]));
  return {
    files,
    fileSizes: Float64Array.from(sizes.values()),
    baseFile: Uint32Array.from(bases, (tensor) =>
      tensor === null ? NO_BASE : (index.get(tensor.path) ?? NO_BASE),
    ),
    baseOffset: Float64Array.from(bases, (tensor) => tensor?.offset ?? 0),
    newFile: Uint32Array.from(next, ({ path }) => index.get(path) ?? NO_BASE),
    newOffset: Float64Array.from(next, ({ offset }) => offset),
    length: Float64Array.from(next, ({ byteLength }) => byteLength),
    elementBytes: Uint8Array.from(next, ({ dtype }) => elementBytesOf(dtype)),
    ...{ deltaPath, codec, sync, threads: 0 },
  };
}
