/** What a delta is made against: the version before, and where its bytes are. */
import { WeightcastError } from '../../../errors.js';
import { native } from '../../../native.js';
import { digestAt, jobResult } from '../../../native-job.js';
import { rangesJob } from '../../../weights/ranges-job.js';
import type { FileRange } from '../../../weights/tensor.js';
import { type Manifest, type ManifestTensor, tensorsOfManifest } from '../manifest.js';
import type { PublishSource } from '../publish/source.js';
import { openSource } from '../publish/source.js';
import type { PublishedEntry } from '../published/list.js';
import { byName } from './pairs.js';

/** A tensor that was digested, in a file. */
export interface BaseTensor extends ManifestTensor {
  readonly path: string;
  readonly offset: number;
}

export interface DeltaBase extends AsyncDisposable {
  readonly version: number;
  readonly digest: string;
  readonly manifest: Manifest;
  readonly tensors: readonly BaseTensor[];
  readonly files: readonly { readonly path: string; readonly byteLength: number }[];
}

/**
 * How many deltas follow each other up to this version.
 *
 * @returns null when the chain is broken: nobody could apply it
 */
export function chainLength(entry: PublishedEntry, published: readonly PublishedEntry[]): number | null {
  const all = new Map(published.map((each) => [each.version, each.manifest]));
  let { manifest } = entry;
  for (let length = 0; length <= published.length; ++length) {
    if (manifest.kind !== 'delta') return manifest.kind === 'full' ? length : null;
    const before = all.get(manifest.base?.version ?? -1);
    if (before === undefined || before.digest !== manifest.base?.digest) return null;
    manifest = before;
  }
  return null;
}

/** Every so many versions is a full one, unless somebody says otherwise. */
export const ANCHOR_EVERY = 10;

/** What `version` is to be a delta of; null when it must be full: the first, or its chain is long enough or broken. */
export function chooseBase(
  version: number,
  published: readonly PublishedEntry[],
  anchorEvery: number,
): PublishedEntry | null {
  const before = published
    .filter(
      (entry) =>
        entry.version < version && entry.manifest.digest !== null && entry.manifest.kind !== 'adapter',
    )
    .sort((a, b) => b.version - a.version)[0];
  const length = before === undefined ? null : chainLength(before, published);
  return before === undefined || length === null || length + 1 >= anchorEvery ? null : before;
}

/**
 * Opens the bytes of the version before: those of its folder, or, given as `source` (a delta's folder has not all), those of a checkpoint, which must
 * have its digests.
 *
 * @throws WeightcastError WC_DELTA_BASE when `source` is something else, or is needed and not given; those of opening it
 */
export async function openDeltaBase(
  { path, version, manifest }: PublishedEntry,
  source: PublishSource | null,
  signal: AbortSignal | null,
): Promise<DeltaBase> {
  const { digest } = manifest;
  if (digest === null) throw refused(version, 'it was published without digests', 'Publish in full first.');
  const own = manifest.kind === 'full';
  if (!own && source === null) {
    const remedy = 'Say where the weights of that version are (--delta-base), or publish in full.';
    throw refused(version, 'it is a delta itself, whose folder has only what changed', remedy);
  }
  const from = await openSource(own ? path : (source as PublishSource), signal);
  try {
    const known = byName(tensorsOfManifest(manifest));
    const tensors = from.tensors.map(({ name, dtype, shape, range }): BaseTensor => {
      const published = known.get(name);
      if (
        range.kind !== 'file' ||
        published?.dtype !== dtype.name ||
        published.shape.join() !== shape.join()
      ) {
        throw refused(version, `tensor ${name} of the given base is another one`);
      }
      return { ...published, path: range.path, offset: range.offset };
    });
    if (tensors.length !== known.size) throw refused(version, 'the given base has other tensors');
    // Bytes of its own folder are proved by the digests of what the delta makes of them, when it is applied.
    if (!own) await requireDigests(version, tensors, signal);
    return {
      ...{ version, digest, manifest, tensors, files: from.files },
      async [Symbol.asyncDispose]() {
        await from.requireUnchanged().finally(() => from[Symbol.asyncDispose]());
      },
    };
  } catch (error) {
    await from[Symbol.asyncDispose]();
    throw error;
  }
}

async function requireDigests(
  version: number,
  tensors: readonly BaseTensor[],
  signal: AbortSignal | null,
): Promise<void> {
  const digests = await digestsOf(tensors, signal);
  const wrong = tensors.find(({ sha256 }, i) => digests[i] !== sha256);
  if (wrong !== undefined) throw refused(version, `tensor ${wrong.name} of the given base has other bytes`);
}

/** SHA-256 of each tensor, hexadecimal. */
export async function digestsOf(
  tensors: readonly Omit<FileRange, 'kind'>[],
  signal: AbortSignal | null,
): Promise<readonly string[]> {
  const job = rangesJob(tensors);
  const digests = await jobResult(() => native().sha256(job, null), signal, 'WC_FILE_WRITE');
  return tensors.map((_, i) => digestAt(digests, i));
}

function refused(version: number, why: string, remedy?: string): WeightcastError {
  return new WeightcastError('WC_DELTA_BASE', `no delta of step_${version}: ${why}`, {
    details: { version },
    ...(remedy === undefined ? {} : { remedy }),
  });
}
