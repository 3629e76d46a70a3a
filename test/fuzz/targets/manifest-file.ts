import type { Manifest } from '../../../src/transports/filesystem/manifest.js';
import {
  encodeManifest,
  parseManifest,
  tensorsOfManifest,
} from '../../../src/transports/filesystem/manifest.js';
import { deltaManifest, fullManifest } from '../../transports/filesystem/manifests.js';
import { expectTrue, type FuzzTarget, finish, valueOrRefusal } from './target.js';

const UNDIGESTED = fullManifest();

/** What names the files of a published version. What is accepted reads back the same, and its numbers agree with each other. */
export const manifestFile: FuzzTarget = {
  name: 'manifest-file',
  seeds: () =>
    [fullManifest(), deltaManifest(), fullManifest({ kind: 'adapter' }), withoutDigests()].map((manifest) =>
      finish(encodeManifest(manifest)),
    ),
  run: (input) => {
    const manifest = valueOrRefusal(
      () => finish(parseManifest(Buffer.from(input), '/m')),
      'WC_MANIFEST_INVALID',
    );
    if (manifest === null) return;
    const again = finish(parseManifest(finish(encodeManifest(manifest)), '/m'));
    expectTrue(JSON.stringify(again) === JSON.stringify(manifest), 'it reads back as another one');
    const { shards, files, totalBytes } = manifest;
    for (const { name } of [...shards, ...files]) {
      expectTrue(
        !/[/\\\0]/.test(name) && !['', '.', '..'].includes(name),
        `the file ${name} leaves its folder`,
      );
    }
    const bytes = tensorsOfManifest(manifest).reduce((sum, tensor) => sum + tensor.byteLength, 0);
    expectTrue(bytes === totalBytes, 'other bytes than its tensors have');
    for (const { byteLength, headerByteLength, tensors } of shards) {
      const end = tensors.reduce((sum, tensor) => sum + tensor.byteLength, headerByteLength);
      expectTrue(end === byteLength, 'tensors that do not fill their file');
    }
  },
};

/** Its digest can't be wrong: what is changed in it is looked at further. */
function withoutDigests(): Manifest {
  const { shards } = UNDIGESTED;
  return {
    ...UNDIGESTED,
    ...{ digest: null, digestAlgorithm: 'none' },
    shards: shards.map((shard) => ({
      ...shard,
      tensors: shard.tensors.map((tensor) => ({ ...tensor, sha256: null })),
    })),
  };
}
