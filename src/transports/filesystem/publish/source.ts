/** What is published: the weights, the small files beside them, and what is known of their bytes. */
import { stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { hasCode, WeightcastError } from '../../../errors.js';
import { type CheckpointFile, openCheckpoint } from '../../../weights/checkpoint.js';
import type { Tensor } from '../../../weights/tensor.js';
import { requireUnchanged } from '../../../weights/unchanged.js';
import { MANIFEST_NAME, OWN_FOLDER, versionOfStep } from '../layout.js';
import { type Lease, takeLease } from '../lease/lease.js';
import { type Manifest, readManifest, tensorsOfManifest } from '../manifest.js';
import { openPublishedCheckpoint } from '../published/checkpoint.js';
import { requireSizes } from '../published/files.js';
import { type Companion, companionsIn, isCompanion } from './companions.js';
import { isThere } from './exists.js';
import { ADAPTER_CONFIG_NAME, ADAPTER_NAME } from './names.js';

/** Weights in memory or in files. A checkpoint that was opened is one. */
export interface WeightSource {
  readonly tensors: readonly Tensor[];
  /** Every file that a tensor lies in. They must not change while they are read. */
  readonly files?: readonly CheckpointFile[] | undefined;
  /** A directory whose small files (config.json, tokenizer …) are published too; null or none: the version has weights only. */
  readonly path?: string | null | undefined;
}

/**
 * A checkpoint's directory or file, a version that was published (its `step_<v>`), a LoRA adapter's directory (adapter_model.safetensors and
 * adapter_config.json), or tensors.
 */
export type PublishSource = string | WeightSource;

/** Made by {@link openSource}; dispose of it when it has been read. */
export interface OpenedSource extends AsyncDisposable {
  readonly kind: 'full' | 'adapter';
  readonly tensors: readonly Tensor[];
  readonly files: readonly CheckpointFile[];
  readonly companions: readonly Companion[];
  /** The version that it is, where it was published. */
  readonly published: { readonly path: string; readonly manifest: Manifest } | null;
  /** Digests that its bytes must have, by tensor: of a published version. */
  readonly expected: ReadonlyMap<string, string>;
  /** @throws WeightcastError WC_CHECKPOINT_CHANGED */
  requireUnchanged(): Promise<void>;
}

/** @throws WeightcastError those of openCheckpoint; WC_MANIFEST_INVALID, WC_VERSION_CORRUPT, WC_CONFIG_INVALID for a delta */
export async function openSource(source: PublishSource, signal: AbortSignal | null): Promise<OpenedSource> {
  if (typeof source !== 'string') {
    const { tensors, files = [], path = null } = source;
    return opened('full', { tensors, files }, path === null ? [] : await companionsIn(path));
  }
  const full = resolve(source);
  if (await isThere(join(full, MANIFEST_NAME))) return openVersion(full, signal);
  const adapter = await adapterFile(full);
  const checkpoint = await openCheckpoint(adapter ?? full, { signal: signal ?? undefined });
  const folder = (await isFolder(full)) ? full : dirname(full);
  const kind = adapter === null ? 'full' : 'adapter';
  return opened(kind, checkpoint, await companionsIn(folder));
}

/** The file with the tensors of an adapter; null where the path is none. */
async function adapterFile(path: string): Promise<string | null> {
  const file = basename(path) === ADAPTER_NAME ? path : join(path, ADAPTER_NAME);
  const isOne = (await isThere(file)) && (await isThere(join(dirname(file), ADAPTER_CONFIG_NAME)));
  return isOne ? file : null;
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path)).isDirectory();
}

function opened(
  kind: OpenedSource['kind'],
  { tensors, files }: Pick<OpenedSource, 'tensors' | 'files'>,
  companions: readonly Companion[],
): OpenedSource {
  return {
    ...{ kind, tensors, files, companions },
    published: null,
    expected: new Map(),
    requireUnchanged: () => requireUnchanged(files),
    [Symbol.asyncDispose]: async () => undefined,
  };
}

/** What its manifest says; its bytes are held against their digests as they pass. Retention leaves it alone meanwhile. */
async function openVersion(folder: string, signal: AbortSignal | null): Promise<OpenedSource> {
  const version = versionOfStep(basename(folder));
  const lease = version === null ? null : await leaseOf(folder, version);
  try {
    const manifest = await readManifest(folder, { version, signal });
    await requireSizes(folder, manifest, signal);
    const checkpoint = await openPublishedCheckpoint(folder, manifest, signal);
    if (checkpoint === null) throw isDelta(folder);
    const companions = manifest.files
      .filter(({ name }) => isCompanion(name))
      .map((file) => ({ ...file, path: join(folder, file.name) }));
    const expected = tensorsOfManifest(manifest).flatMap(({ name, sha256 }) =>
      sha256 === null ? [] : [[name, sha256] as const],
    );
    return {
      ...opened(manifest.kind === 'adapter' ? 'adapter' : 'full', checkpoint, companions),
      published: { path: folder, manifest },
      expected: new Map(expected),
      [Symbol.asyncDispose]: async () => lease?.close(),
    };
  } catch (error) {
    await lease?.close();
    throw error;
  }
}

/** None for a copy that lies elsewhere, and where this user may not write: then nobody else removes it either, or nothing can be said to him. */
async function leaseOf(folder: string, version: number): Promise<Lease | null> {
  const directory = dirname(folder);
  if (!(await isThere(join(directory, OWN_FOLDER)))) return null;
  const stillThere = () => isThere(join(folder, MANIFEST_NAME));
  return takeLease(directory, version, { stillThere }).catch((error: unknown) => {
    if (hasCode(error, 'WC_FILE_WRITE')) return null;
    throw error;
  });
}

function isDelta(folder: string): WeightcastError {
  return new WeightcastError('WC_CONFIG_INVALID', `${folder} is a delta, which has only what changed`, {
    remedy: 'Publish from a full version, or from a folder that weightcast follow keeps.',
  });
}
