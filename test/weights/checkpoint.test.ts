import { mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../src/weights/checkpoint.js';
import { type Entries, withDirectory, writeSafetensors } from './files.js';

const INDEX = 'model.safetensors.index.json';
const tensor = (byteLength: number) => ({
  dtype: 'U8',
  shape: [byteLength],
  bytes: new Uint8Array(byteLength),
});
const SHARDS: Readonly<Record<string, Entries>> = {
  'model-00001-of-00002.safetensors': { a: tensor(3), b: tensor(4) },
  'model-00002-of-00002.safetensors': { c: tensor(5) },
};
const MAP = {
  a: 'model-00001-of-00002.safetensors',
  b: 'model-00001-of-00002.safetensors',
  c: 'model-00002-of-00002.safetensors',
};

async function writeShards(directory: string, index: unknown, shards = SHARDS): Promise<void> {
  for (const [name, entries] of Object.entries(shards))
    await writeSafetensors(join(directory, name), entries);
  const raw = typeof index === 'string' || index instanceof Uint8Array;
  await writeFile(join(directory, INDEX), raw ? index : JSON.stringify(index));
}

const refused = (directory: string, code: string, message: RegExp) =>
  expect(openCheckpoint(directory)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });

describe('a checkpoint directory', () => {
  it('of one file is its tensors', () =>
    withDirectory(async (directory) => {
      await writeSafetensors(join(directory, 'model.safetensors'), { a: tensor(3), b: tensor(4) });
      const checkpoint = await openCheckpoint(directory);
      expect(checkpoint).toMatchObject({ path: directory, byteLength: 7 });
      expect(checkpoint.tensors.map(({ name }) => name)).toEqual(['a', 'b']);
      expect(checkpoint.files.map(({ path }) => path)).toEqual([join(directory, 'model.safetensors')]);
    }));

  it('of shards is the tensors of all shards that the index names', () =>
    withDirectory(async (directory) => {
      await writeShards(directory, {
        metadata: { total_size: 12, other: [1, { x: null }] },
        weight_map: MAP,
      });
      const checkpoint = await openCheckpoint(directory);
      expect(checkpoint).toMatchObject({ path: directory, byteLength: 12 });
      expect(checkpoint.tensors.map(({ name }) => name)).toEqual(['a', 'b', 'c']);
      expect(checkpoint.files).toHaveLength(2);
    }));

  it.each([
    ['no metadata', { weight_map: MAP }],
    [
      'a total written as a float',
      '{"metadata":{"total_size":12.0},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00001-of-00002.safetensors","c":"model-00002-of-00002.safetensors"}}',
    ],
  ])('may have an index with %s', (_, index) =>
    withDirectory(async (directory) => {
      await writeShards(directory, index);
      expect((await openCheckpoint(directory)).tensors).toHaveLength(3);
    }),
  );

  it('is loaded by its index when it has a single file too, as vLLM does', () =>
    withDirectory(async (directory) => {
      await writeShards(directory, { weight_map: MAP });
      await writeSafetensors(join(directory, 'model.safetensors'), { other: tensor(1) });
      expect((await openCheckpoint(directory)).tensors.map(({ name }) => name)).toEqual(['a', 'b', 'c']);
    }));

  it('of symbolic links is followed, as in the hub cache', () =>
    withDirectory(async (directory) => {
      await mkdir(join(directory, 'snapshot'));
      await writeSafetensors(join(directory, 'blob'), { a: tensor(3) });
      await symlink('../blob', join(directory, 'snapshot', 'model.safetensors'));
      expect((await openCheckpoint(join(directory, 'snapshot'))).byteLength).toBe(3);
    }));

  it('that lacks a shard is refused with the names of what is missing', () =>
    withDirectory(async (directory) => {
      await writeShards(directory, { weight_map: MAP });
      await rm(join(directory, 'model-00002-of-00002.safetensors'));
      await refused(
        directory,
        'WC_CHECKPOINT_SHARD_MISSING',
        /1 are missing: model-00002-of-00002\.safetensors/,
      );
    }));

  it.each<[string, unknown, RegExp]>([
    [
      'a total too small',
      { metadata: { total_size: 11 }, weight_map: MAP },
      /says 11 bytes in total, the shards have 12/,
    ],
    [
      'a total too large',
      { metadata: { total_size: 13 }, weight_map: MAP },
      /the index says 13 bytes in total, the shards have 12/,
    ],
    [
      'a tensor that no shard has',
      { weight_map: { ...MAP, d: MAP.a } },
      /names 1 tensors that no shard has: d/,
    ],
    [
      'a tensor missing',
      { weight_map: { a: MAP.a, c: MAP.c } },
      /tensor b is in model-00001.*the index does not name it/,
    ],
    [
      'a tensor in another shard',
      { weight_map: { ...MAP, b: MAP.c } },
      /tensor b is in model-00001.*the index says model-00002/,
    ],
    [
      'a shard outside the directory',
      { weight_map: { a: '../model.safetensors' } },
      /not the name of a file/,
    ],
    ['a shard called ..', { weight_map: { a: '..' } }, /not the name of a file/],
    ['a shard with a NUL in its name', { weight_map: { a: 'a\0b' } }, /not the name of a file/],
    ['no weight_map', { metadata: {} }, /no weight_map/],
    ['a weight_map of numbers', { weight_map: { a: 1 } }, /'"' expected/],
    ['a total that is no number of bytes', { metadata: { total_size: -1 }, weight_map: MAP }, /total_size/],
    ['the same tensor twice', `{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}`, /a second "a"/],
    ['two weight_maps', `{"weight_map":{},"weight_map":{}}`, /a second "weight_map"/],
    ['no JSON', 'weights', /'\{' expected/],
    ['bytes that are no text', Buffer.from('7b22ff22', 'hex'), /not valid UTF-8/],
  ])('whose index has %s is refused', (_, index, message) =>
    withDirectory(async (directory) => {
      await writeShards(directory, index);
      await refused(directory, 'WC_CHECKPOINT_INVALID', message);
    }),
  );

  it('with a tensor in two shards is refused', () =>
    withDirectory(async (directory) => {
      await writeShards(
        directory,
        { weight_map: MAP },
        { ...SHARDS, 'model-00002-of-00002.safetensors': { c: tensor(5), a: tensor(3) } },
      );
      await refused(
        directory,
        'WC_CHECKPOINT_INVALID',
        /tensor a is in two shards, model-00001.* and model-00002/,
      );
    }));

  it('without a tensor is refused', () =>
    withDirectory(async (directory) => {
      await writeSafetensors(join(directory, 'model.safetensors'), {});
      await refused(directory, 'WC_CHECKPOINT_INVALID', /there is no tensor in it/);
      await writeFile(join(directory, INDEX), '{"weight_map":{}}');
      await refused(directory, 'WC_CHECKPOINT_INVALID', /there is no tensor in it/);
    }));

  it('with a damaged shard names the shard', () =>
    withDirectory(async (directory) => {
      await writeShards(directory, { weight_map: MAP });
      await writeFile(join(directory, MAP.c), 'no header');
      await refused(directory, 'WC_SAFETENSORS_INVALID', /model-00002-of-00002/);
    }));

  it('that is not there, or has no weights, says what was looked for', () =>
    withDirectory(async (directory) => {
      await refused(
        directory,
        'WC_CHECKPOINT_NOT_FOUND',
        /neither model\.safetensors\.index\.json nor model\.safetensors/,
      );
      await refused(join(directory, 'no'), 'WC_CHECKPOINT_NOT_FOUND', /no such file/);
      for (const step of [9, 10]) await mkdir(join(directory, `step_${step}`));
      await expect(openCheckpoint(directory)).rejects.toMatchObject({
        remedy: expect.stringContaining(`such as ${join(directory, 'step_10')}.`),
      });
    }));
});

describe('a path to one file', () => {
  it('is a checkpoint; engines can load its directory when nothing else is in it', () =>
    withDirectory(async (directory) => {
      const path = join(directory, 'weights.safetensors');
      await writeSafetensors(path, { a: tensor(3) });
      await writeFile(join(directory, 'config.json'), '{}');
      expect((await openCheckpoint(path)).path).toBe(directory);
      await writeSafetensors(join(directory, 'other.safetensors'), { a: tensor(3) });
      expect((await openCheckpoint(path)).path).toBeNull();
    }));

  it('is refused when it is not a safetensors file by name', () =>
    withDirectory(async (directory) => {
      await writeFile(join(directory, 'pytorch_model.bin'), '');
      await refused(
        join(directory, 'pytorch_model.bin'),
        'WC_CHECKPOINT_NOT_FOUND',
        /not a \.safetensors file/,
      );
    }));
});
