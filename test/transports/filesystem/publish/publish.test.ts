import { appendFile, cp, mkdir, mkdtemp, readFile, rm, truncate, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { emulatorLibraries, native } from '../../../../src/native.js';
import { writeTinyModel } from '../../../../src/testing/tiny-model.js';
import { writeManifest } from '../../../../src/transports/filesystem/manifest.js';
import { publish } from '../../../../src/transports/filesystem/publish/index.js';
import { openCheckpoint } from '../../../../src/weights/checkpoint.js';
import { DTYPES, type DType } from '../../../../src/weights/dtype.js';
import { withDirectory, writeSafetensors } from '../../../weights/files.js';
import { deltaManifest } from '../manifests.js';
import { everythingIn, requireWhole, sha256, weightsIn } from './support.js';

let folder: string;
let model: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weightcast-publish-'));
  model = join(folder, 'model');
  await mkdir(model);
  await writeTinyModel(model, { seed: 3 });
  await writeFile(join(model, 'tokenizer.json'), '{"version":"1.0"}');
  await writeFile(join(model, 'merges.txt'), '');
  await writeFile(join(model, 'optimizer.bin'), 'not of the model');
  await writeFile(join(model, 'old.safetensors.index.json'), '{}');
  await mkdir(join(model, 'original.json'));
});
afterAll(() => rm(folder, { recursive: true }));

describe('a checkpoint', () => {
  it('is published as a folder that loads as it did, with the small files that belong to it', async () => {
    await withDirectory(async (directory) => {
      const { path, manifest, byteLength } = await publish(model, { directory, version: 7 });
      expect(path).toBe(join(directory, 'step_7'));
      expect(await everythingIn(directory)).toEqual([
        'step_7',
        ...['STABLE', 'config.json', 'merges.txt', 'model.safetensors', 'tokenizer.json'].map(
          (name) => `step_7/${name}`,
        ),
        'step_7/weightcast-manifest.json',
      ]);
      expect(await weightsIn(path)).toEqual(await weightsIn(model));
      expect(await requireWhole(path)).toEqual(manifest);
      expect(manifest).toMatchObject({ version: 7, kind: 'full', base: null, digestAlgorithm: 'sha256' });
      expect((await openCheckpoint(path)).metadata.get('format')).toBe('pt');
      const sizes = manifest.shards.concat().map((shard) => shard.byteLength);
      expect(byteLength).toBe(
        sizes.reduce((a, b) => a + b) + manifest.files.reduce((sum, file) => sum + file.byteLength, 0),
      );
    });
  });

  it.each(['rename', 'manifest-last'] as const)('is cut into shards with an index: %s', async (commit) => {
    await withDirectory(async (directory) => {
      const { path, manifest } = await publish(model, { directory, version: 0, shardBytes: 100_000, commit });
      expect(manifest.shards.length).toBeGreaterThan(3);
      for (const shard of manifest.shards) {
        const tensorBytes = shard.byteLength - shard.headerByteLength;
        expect(tensorBytes <= 100_000 || shard.tensors.length === 1).toBe(true);
      }
      expect(await weightsIn(path)).toEqual(await weightsIn(model));
      await requireWhole(path);
      expect(await everythingIn(path)).toEqual(
        ['STABLE', 'weightcast-manifest.json', ...manifest.files.map(({ name }) => name)]
          .concat(manifest.shards.map(({ name }) => name))
          .sort(),
      );
      const index = JSON.parse(await readFile(join(path, 'model.safetensors.index.json'), 'utf8'));
      expect(index.metadata.total_size).toBe(manifest.totalBytes);
      const unique = manifest.publisher.nonce;
      for (const { name } of manifest.shards) expect(name.includes(unique)).toBe(commit === 'manifest-last');
    });
  });

  it('has the same digest however it is cut', async () => {
    await withDirectory(async (directory) => {
      const one = await publish(model, { directory, version: 1 });
      const many = await publish(model, {
        directory,
        version: 2,
        shardBytes: 50_000,
        commit: 'manifest-last',
      });
      expect(many.manifest.digest).toBe(one.manifest.digest);
      expect(many.manifest.shards.length).toBeGreaterThan(1);
    });
  });

  it('is published without digests where that is asked for', async () => {
    await withDirectory(async (directory) => {
      const { path, manifest } = await publish(model, {
        directory,
        version: 1,
        digests: false,
        fsync: false,
      });
      expect(manifest).toMatchObject({ digest: null, digestAlgorithm: 'none' });
      expect(await requireWhole(path)).toEqual(manifest);
      expect(await weightsIn(path)).toEqual(await weightsIn(model));
    });
  });

  it('keeps every dtype, shapes without elements and scalars', async () => {
    await withDirectory(async (directory) => {
      const source = join(directory, 'model.safetensors');
      const entries = Object.fromEntries(
        [...DTYPES.values()].map(({ name, bits }, i) => {
          const bytes = Buffer.alloc(bits, i + 1);
          return [`t.${i}.${name}`, { dtype: name, shape: [2, 4], bytes }];
        }),
      );
      await writeSafetensors(source, {
        ...entries,
        '12': { dtype: 'F32', shape: [], bytes: Buffer.from([1, 2, 3, 4]) },
        none: { dtype: 'BF16', shape: [0, 5], bytes: Buffer.alloc(0) },
      });
      const { path } = await publish(source, {
        directory: join(directory, 'out'),
        version: 1,
        shardBytes: 100,
      });
      expect(await weightsIn(path)).toEqual(await weightsIn(source));
      await requireWhole(path);
    });
  });

  it('tells how far it is', async () => {
    await withDirectory(async (directory) => {
      const seen: number[] = [];
      let total = 0;
      const onProgress = (bytes: number, totalBytes: number) => {
        seen.push(bytes);
        total = totalBytes;
      };
      const { manifest } = await publish(model, { directory, version: 1, onProgress });
      expect(seen.at(-1)).toBe(total);
      expect(total).toBe(manifest.shards.reduce((sum, shard) => sum + shard.byteLength, 0));
    });
  });
});

describe('tensors', () => {
  it('of devices and of host memory are published, with the small files of a folder', async () => {
    await withDirectory(async (directory) => {
      const runtime = await native().open(emulatorLibraries.cuda, emulatorLibraries.nccl);
      const communicator = await runtime.communicator(0);
      try {
        const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, i) => i % 251));
        const buffer = await communicator.allocate(bytes.length);
        await buffer.write(0, bytes);
        const u8 = DTYPES.get('U8') as DType;
        const tensors = [
          {
            name: 'on.device',
            dtype: u8,
            shape: [200_000],
            range: { kind: 'device', buffer, offset: 100_000, byteLength: 200_000 },
          },
          {
            name: 'on.host',
            dtype: u8,
            shape: [3],
            range: { kind: 'host', bytes: bytes.subarray(5, 8), byteLength: 3 },
          },
        ] as const;
        const { path, manifest } = await publish({ tensors, path: model }, { directory, version: 1 });
        expect(await weightsIn(path)).toEqual({
          'on.device': `U8 200000 ${sha256(bytes.subarray(100_000))}`,
          'on.host': `U8 3 ${sha256(bytes.subarray(5, 8))}`,
        });
        expect(manifest.files.map(({ name }) => name)).toContain('config.json');
        await buffer.free();
      } finally {
        await communicator.abort();
      }
    });
  });

  it('in files that the source does not list are refused', async () => {
    await withDirectory(async (directory) => {
      const { tensors } = await openCheckpoint(model);
      await expect(publish({ tensors }, { directory, version: 1 })).rejects.toMatchObject({
        code: 'WC_CONFIG_INVALID',
      });
      expect(await everythingIn(directory)).toEqual([]);
    });
  });
});

describe('a published version', () => {
  it('is published again, cut otherwise, with the same digest', async () => {
    await withDirectory(async (directory) => {
      const first = await publish(model, {
        directory,
        version: 1,
        shardBytes: 90_000,
        commit: 'manifest-last',
      });
      const second = await publish(first.path, {
        ...{ directory: join(directory, 'copy'), version: 1, shardBytes: 5e9 },
      });
      expect(second.manifest.digest).toBe(first.manifest.digest);
      expect(second.manifest.shards).toHaveLength(1);
      expect(await weightsIn(second.path)).toEqual(await weightsIn(model));
      expect(await everythingIn(join(directory, '.weightcast', 'leases'))).toEqual([]);
      expect(second.manifest.files.map(({ name }) => name)).toEqual([
        'config.json',
        'merges.txt',
        'tokenizer.json',
      ]);
    });
  });

  it('is not published again when its bytes are not those of its manifest', async () => {
    await withDirectory(async (directory) => {
      const { path, manifest } = await publish(model, { directory, version: 1 });
      const file = join(path, 'model.safetensors');
      const bytes = await readFile(file);
      bytes[bytes.length - 5] = (bytes[bytes.length - 5] as number) ^ 1;
      await writeFile(file, bytes);
      await expect(publish(path, { directory, version: 2 })).rejects.toMatchObject({
        code: 'WC_VERSION_CORRUPT',
        details: { tensor: manifest.shards[0]?.tensors.at(-1)?.name },
      });
      await truncate(file, bytes.length - 1);
      await expect(publish(path, { directory, version: 2 })).rejects.toMatchObject({
        code: 'WC_VERSION_CORRUPT',
      });
      expect(await everythingIn(directory)).not.toContain('step_2');
    });
  });

  it('that is a delta has too little to be published again', async () => {
    await withDirectory(async (directory) => {
      const step = join(directory, 'step_5');
      await mkdir(step);
      const files = [{ name: 'delta.bin', byteLength: 5, sha256: sha256(Buffer.from('delta')) }];
      await writeManifest(step, deltaManifest({ files }), { sync: false });
      await writeFile(join(step, 'delta.bin'), 'delta');
      await expect(publish(step, { directory, version: 6 })).rejects.toMatchObject({
        code: 'WC_CONFIG_INVALID',
        message: expect.stringContaining('is a delta'),
      });
    });
  });

  it('is not published over', async () => {
    await withDirectory(async (directory) => {
      const { manifest } = await publish(model, { directory, version: 1 });
      for (const commit of ['rename', 'manifest-last'] as const) {
        await expect(publish(model, { directory, version: 1, commit })).rejects.toMatchObject({
          code: 'WC_PUBLISH_EXISTS',
          details: { digest: manifest.digest },
        });
      }
      expect(await requireWhole(join(directory, 'step_1'))).toEqual(manifest);
      expect(await everythingIn(join(directory, '.weightcast'))).toEqual([]);
    });
  });

  it.each(['rename', 'manifest-last'] as const)(
    "is not put where somebody else's files are: %s",
    async (commit) => {
      await withDirectory(async (directory) => {
        await cp(model, join(directory, 'step_3'), { recursive: true });
        const before = await everythingIn(directory);
        await expect(publish(model, { directory, version: 3, commit })).rejects.toMatchObject({
          code: 'WC_PUBLISH_EXISTS',
        });
        expect(await everythingIn(directory)).toEqual(before);
      });
    },
  );
});

describe('an adapter', () => {
  it.each(['rename', 'manifest-last'] as const)(
    'keeps the names that engines load it by: %s',
    async (commit) => {
      await withDirectory(async (directory) => {
        const adapter = join(directory, 'adapter');
        await mkdir(adapter);
        const [bytes, dtype] = [Buffer.alloc(8, 3), 'BF16'];
        await writeSafetensors(join(adapter, 'adapter_model.safetensors'), {
          'base_model.model.q.lora_A.weight': { dtype, shape: [4], bytes },
          'base_model.model.q.lora_B.weight': { dtype, shape: [4], bytes },
        });
        await writeFile(join(adapter, 'adapter_config.json'), '{"r":8}');
        await writeFile(join(adapter, 'README.md'), 'no');
        const out = join(directory, 'out');
        const { path, manifest } = await publish(adapter, {
          directory: out,
          version: 4,
          commit,
          shardBytes: 8,
        });
        expect(manifest.kind).toBe('adapter');
        expect(await everythingIn(path)).toEqual([
          ...['STABLE', 'adapter_config.json', 'adapter_model.safetensors', 'weightcast-manifest.json'],
        ]);
        await requireWhole(path);
        const again = await publish(path, { directory: out, version: 5, commit });
        expect(again.manifest).toMatchObject({ kind: 'adapter', digest: manifest.digest });
      });
    },
  );
});

describe('nothing is published', () => {
  it('of weights that are larger than the free space, and nothing is written', async () => {
    await withDirectory(async (directory) => {
      const source = join(directory, 'model.safetensors');
      const bytes = 2 ** 46;
      const u8 = DTYPES.get('U8') as DType;
      const range = { kind: 'file', path: source, offset: 0, byteLength: bytes } as const;
      const files = [{ path: source, byteLength: bytes, stamp: '' }];
      const out = join(directory, 'out');
      const error = await publish(
        { tensors: [{ name: 'huge', dtype: u8, shape: [bytes], range }], files },
        { directory: out, version: 1 },
      ).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: 'WC_PUBLISH_SPACE', message: expect.stringContaining(out) });
      const { needed, free, missing } = (error as { details: Record<string, number> }).details;
      expect(missing).toBe((needed as number) - (free as number));
      expect(needed).toBeGreaterThan(bytes);
      expect(await everythingIn(out)).toEqual([]);
    });
  });

  it.each(['rename', 'manifest-last'] as const)('when the source changes meanwhile: %s', async (commit) => {
    await withDirectory(async (directory) => {
      const source = join(directory, 'model');
      await cp(model, source, { recursive: true });
      const opened = await openCheckpoint(source);
      const file = join(source, 'model.safetensors');
      // The same size, another time.
      await utimes(file, 1, 1);
      await expect(publish(opened, { directory, version: 1, commit })).rejects.toMatchObject({
        code: 'WC_CHECKPOINT_CHANGED',
      });
      await appendFile(file, 'x');
      await expect(publish(opened, { directory, version: 1, commit })).rejects.toMatchObject({
        code: 'WC_CHECKPOINT_CHANGED',
      });
      await rm(file);
      await expect(publish(opened, { directory, version: 1, commit })).rejects.toMatchObject({
        code: expect.stringMatching(/WC_CHECKPOINT_CHANGED|WC_FILE_READ/),
      });
      expect(await everythingIn(directory)).toEqual(await everythingIn(directory).then(onlyModel));
    });
  });

  it.each(['rename', 'manifest-last'] as const)(
    'when it is called off, and nothing stays: %s',
    async (commit) => {
      await withDirectory(async (directory) => {
        const controller = new AbortController();
        const reason = new Error('enough');
        const onProgress = () => controller.abort(reason);
        const { signal } = controller;
        await expect(publish(model, { directory, version: 1, commit, signal, onProgress })).rejects.toBe(
          reason,
        );
        expect(await everythingIn(directory)).toEqual([]);
        await publish(model, { directory, version: 1, commit });
      });
    },
  );

  it.each<[string, Partial<Parameters<typeof publish>[1]>]>([
    ['version', { version: -1 }],
    ['version', { version: 1.5 }],
    ['version', { version: 2 ** 53 }],
    ['shardBytes', { shardBytes: 0 }],
    ['graceMs', { graceMs: Number.NaN }],
  ])('with a wrong %s', async (name, wrong) => {
    await withDirectory(async (directory) => {
      await expect(publish(model, { directory, version: 1, ...wrong })).rejects.toMatchObject({
        code: 'WC_CONFIG_INVALID',
        message: expect.stringContaining(name),
      });
      expect(await everythingIn(directory)).toEqual([]);
    });
  });

  it.each(['rename', 'manifest-last'] as const)(
    "in somebody else's folder, which is told before anything is written: %s",
    async (commit) => {
      await withDirectory(async (directory) => {
        await mkdir(join(directory, 'step_1'));
        await writeFile(join(directory, 'step_1', 'optimizer.pt'), 'mine');
        await writeFile(join(directory, 'step_2'), 'a file');
        for (const version of [1, 2]) {
          const onProgress = () => expect.unreachable('weights are written');
          await expect(publish(model, { directory, version, commit, onProgress })).rejects.toMatchObject({
            code: 'WC_PUBLISH_EXISTS',
            message: expect.stringContaining('no manifest of weightcast in it'),
          });
        }
        expect(await everythingIn(directory)).toEqual(['step_1', 'step_1/optimizer.pt', 'step_2']);
      });
    },
  );

  it('from a folder with no weights', async () => {
    await withDirectory(async (directory) => {
      const empty = join(directory, 'empty');
      await mkdir(empty);
      await expect(publish(empty, { directory, version: 1 })).rejects.toMatchObject({
        code: 'WC_CHECKPOINT_NOT_FOUND',
      });
    });
  });
});

function onlyModel(entries: readonly string[]): readonly string[] {
  return entries.filter((entry) => entry === 'model' || entry.startsWith('model/'));
}
