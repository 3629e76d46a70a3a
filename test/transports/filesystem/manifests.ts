/** Manifests for tests. */
import { createHash } from 'node:crypto';
import type { Manifest } from '../../../src/transports/filesystem/manifest.js';
import { versionDigestSteps } from '../../../src/transports/filesystem/version-digest.js';
import { runToEnd } from '../../../src/weights/yielding.js';

export const sha = (text: string) => createHash('sha256').update(text).digest('hex');

const TENSORS = [
  { name: 'model.embed.weight', dtype: 'BF16', shape: [4, 2], offset: 100, byteLength: 16, sha256: sha('a') },
  { name: 'model.norm.weight', dtype: 'F32', shape: [], offset: 116, byteLength: 4, sha256: sha('b') },
  { name: 'ü', dtype: 'U8', shape: [0, 3], offset: 120, byteLength: 0, sha256: sha('') },
];

/** A small full version. */
export function fullManifest(changes: Partial<Manifest> = {}): Manifest {
  return {
    version: 5,
    kind: 'full',
    digest: runToEnd(versionDigestSteps(TENSORS)),
    base: null,
    digestAlgorithm: 'sha256',
    totalBytes: 20,
    created: '2026-11-21T20:00:00.000Z',
    publisher: { nonce: '0123456789abcdef', host: 'trainer-0', pid: 77, weightcast: '0.1.0' },
    shards: [
      {
        name: 'model.safetensors',
        byteLength: 120,
        headerByteLength: 100,
        headerSha256: sha('header'),
        tensors: TENSORS,
      },
    ],
    files: [{ name: 'config.json', byteLength: 2, sha256: sha('{}') }],
    tensors: null,
    ...changes,
  };
}

/** The same weights as a delta. */
export function deltaManifest(changes: Partial<Manifest> = {}): Manifest {
  return fullManifest({
    kind: 'delta',
    base: { version: 4, digest: sha('4') },
    shards: [],
    files: [{ name: 'delta-00001.bin', byteLength: 9, sha256: sha('delta') }],
    tensors: TENSORS.map(({ offset: _, ...tensor }) => tensor),
    ...changes,
  });
}
