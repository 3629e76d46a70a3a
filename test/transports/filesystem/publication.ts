/** Small published versions for tests of readers, made without the publisher. */
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stepFolder } from '../../../src/transports/filesystem/layout.js';
import { type Manifest, writeManifest } from '../../../src/transports/filesystem/manifest.js';
import { versionDigestSteps } from '../../../src/transports/filesystem/version-digest.js';
import { readSafetensorsHeader } from '../../../src/weights/safetensors.js';
import { type TensorToWrite, writeCheckpoint } from '../../../src/weights/write.js';
import { runToEnd } from '../../../src/weights/yielding.js';
import { deltaManifest, sha } from './manifests.js';

const TENSORS: readonly TensorToWrite[] = [
  { name: 'model.embed_tokens.weight', dtype: 'BF16', shape: [64, 16] },
  { name: 'model.layers.0.mlp.weight', dtype: 'F32', shape: [16, 16] },
  { name: 'model.empty', dtype: 'U8', shape: [0] },
  { name: 'model.norm.weight', dtype: 'BF16', shape: [16] },
];

export interface PublicationOptions {
  readonly seed?: number;
  readonly shards?: number;
  readonly tensors?: readonly TensorToWrite[];
  readonly kind?: 'full' | 'adapter';
  /** Last word on the manifest; its digest is that of the tensors as they are. */
  readonly edit?: (manifest: Manifest) => Manifest;
}

export const hashOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** Publishes a version by one rename, with a manifest that holds. @returns its folder */
export async function publishSmall(
  directory: string,
  version: number,
  options: PublicationOptions = {},
): Promise<string> {
  const { seed = version, shards = 2, tensors = TENSORS, kind = 'full', edit = (same) => same } = options;
  const partial = join(directory, '.weightcast', `partial-${version}`);
  await mkdir(partial, { recursive: true });
  await writeCheckpoint(partial, tensors, { shards: kind === 'adapter' ? 1 : shards, seed });
  await writeFile(join(partial, 'config.json'), JSON.stringify({ version }));
  if (kind === 'adapter') {
    await rename(join(partial, 'model.safetensors'), join(partial, 'adapter_model.safetensors'));
  }
  await writeManifest(partial, edit(await manifestFor(partial, version, kind)), { sync: false });
  const step = stepFolder(directory, version);
  await rename(partial, step);
  await writeFile(join(step, 'STABLE'), '');
  return step;
}

/** A manifest of the files in a folder, as they are. */
export async function manifestFor(
  folder: string,
  version: number,
  kind: 'full' | 'adapter' = 'full',
): Promise<Manifest> {
  const names = (await readdir(folder)).sort();
  const shards = await Promise.all(
    names.filter((name) => name.endsWith('.safetensors')).map((name) => shardOf(join(folder, name), name)),
  );
  const files = await Promise.all(
    names
      .filter((name) => name.endsWith('.json'))
      .map(async (name) => {
        const bytes = await readFile(join(folder, name));
        return { name, byteLength: bytes.length, sha256: hashOf(bytes) };
      }),
  );
  const tensors = shards.flatMap((shard) => shard.tensors);
  return {
    ...{ version, kind, base: null, digestAlgorithm: 'sha256', shards, files, tensors: null },
    digest: runToEnd(versionDigestSteps(tensors)),
    totalBytes: tensors.reduce((sum, { byteLength }) => sum + byteLength, 0),
    created: new Date().toISOString(),
    publisher: { nonce: '0123456789abcdef', host: 'test', pid: process.pid, weightcast: '0.0.0' },
  };
}

async function shardOf(path: string, name: string) {
  const { byteLength, headerByteLength, tensors } = await readSafetensorsHeader(path);
  const bytes = await readFile(path);
  return {
    ...{ name, byteLength, headerByteLength, headerSha256: hashOf(bytes.subarray(0, headerByteLength)) },
    tensors: tensors.flatMap(({ name: tensor, dtype, shape, range }) => {
      if (range.kind !== 'file') return [];
      const { offset, byteLength: size } = range;
      const sha256 = hashOf(bytes.subarray(offset, offset + size));
      return [{ name: tensor, dtype: dtype.name, shape, offset, byteLength: size, sha256 }];
    }),
  };
}

/** A delta against the version before, with a file that nobody can apply. */
export async function publishDelta(directory: string, version: number): Promise<void> {
  const step = stepFolder(directory, version);
  await mkdir(step);
  await writeFile(join(step, 'delta-00001.bin'), 'delta');
  const files = [{ name: 'delta-00001.bin', byteLength: 5, sha256: sha('delta') }];
  const base = { version: version - 1, digest: sha('base') };
  await writeManifest(step, deltaManifest({ version, files, base }), { sync: false });
}
