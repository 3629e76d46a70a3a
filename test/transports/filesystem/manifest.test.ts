import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  encodeManifest,
  MAX_MANIFEST_BYTES,
  type Manifest,
  parseManifest,
  readManifest,
  tensorsOfManifest,
  writeManifest,
} from '../../../src/transports/filesystem/manifest.js';
import { versionDigestSteps } from '../../../src/transports/filesystem/version-digest.js';
import { runToEnd } from '../../../src/weights/yielding.js';
import { deltaManifest, fullManifest, sha } from './manifests.js';

type Json = Record<string, unknown>;

const parse = (bytes: Buffer) => runToEnd(parseManifest(bytes, 'm.json'));
const encode = (manifest: Manifest) => runToEnd(encodeManifest(manifest));
const refused = (message: RegExp) =>
  expect.objectContaining({ code: 'WC_MANIFEST_INVALID', message: expect.stringMatching(message) });

function edited(manifest: Manifest, edit: (json: Json) => void): Buffer {
  const json = JSON.parse(encode(manifest).toString()) as Json;
  edit(json);
  return Buffer.from(JSON.stringify(json));
}

describe('a manifest', () => {
  it.each([
    ['full version', fullManifest()],
    ['delta', deltaManifest()],
    ['adapter', fullManifest({ kind: 'adapter' })],
    ['version without digests', withoutDigests()],
    ['version without other files', fullManifest({ files: [] })],
  ])('of a %s is read as it was written', (_, manifest) => {
    expect(parse(encode(manifest))).toEqual(manifest);
  });

  it('is JSON with the names that its readers in other languages know', () => {
    const json = JSON.parse(encode(fullManifest()).toString());
    expect(json).toMatchObject({
      format: 'weightcast-manifest',
      format_version: 1,
      version: 5,
      kind: 'full',
      base: null,
      digest_algorithm: 'sha256',
      total_size: 20,
      publisher: { nonce: '0123456789abcdef', host: 'trainer-0', pid: 77, weightcast: '0.1.0' },
      files: [{ name: 'config.json', size: 2, sha256: sha('{}') }],
    });
    expect(json.shards[0]).toMatchObject({ size: 120, header_size: 100, header_sha256: sha('header') });
    expect(json.shards[0].tensors[1]).toEqual({
      ...{ name: 'model.norm.weight', dtype: 'F32', shape: [], offset: 116, size: 4, sha256: sha('b') },
    });
    expect(json).not.toHaveProperty('tensors');
    expect(JSON.parse(encode(deltaManifest()).toString()).tensors[0]).not.toHaveProperty('offset');
  });

  it('lists its tensors, whatever its kind', () => {
    const names = (manifest: Manifest) => tensorsOfManifest(manifest).map(({ name }) => name);
    expect(names(deltaManifest())).toEqual(names(fullManifest()));
  });

  it('of a later format is not guessed at', () => {
    const bytes = edited(fullManifest(), (json) => {
      json.format_version = 2;
    });
    expect(() => parse(bytes)).toThrow(refused(/format_version 2/));
  });

  it.each<[string, RegExp, string, unknown]>([
    ['another format', /format is not/, 'format', 'x'],
    ['a negative version', /version/, 'version', -1],
    ['a version beyond 2^53', /version/, 'version', 2 ** 53],
    ['an unknown kind', /kind/, 'kind', 'half'],
    ['a base of a full version', /full: base/, 'base', { version: 1, digest: sha('') }],
    ['a delta without a base', /delta: base/, 'kind', 'delta'],
    ['tensors beside shards', /full: tensors/, 'tensors', []],
    ['no shards', /full: 0 shards/, 'shards', []],
    ['a digest that is none', /digest/, 'digest', 'abc'],
    ['a digest of other tensors', /digest is not that/, 'digest', sha('other')],
    ['no digest', /digest_algorithm is sha256/, 'digest', null],
    ['a total that is not the sum', /total_size is 21/, 'total_size', 21],
    ['a hole', /begins at 117/, 'shards.0.tensors.1.offset', 117],
    ['an overlap', /begins at 115/, 'shards.0.tensors.1.offset', 115],
    ['bytes behind the last tensor', /121 bytes/, 'shards.0.size', 121],
    ['a header without length', /header of 7/, 'shards.0.header_size', 7],
    ['a size that is not of the shape', /does not have 16/, 'shards.0.tensors.0.shape', [9]],
    ['an unknown dtype', /dtype/, 'shards.0.tensors.0.dtype', 'F23'],
    ['two tensors of one name', /same name/, 'shards.0.tensors.1.name', 'ü'],
    ['a name with a tab', /name of a tensor/, 'shards.0.tensors.1.name', 'a\tb'],
    ['a tensor without digest', /sha256 is missing/, 'shards.0.tensors.1.sha256', null],
    ['a file that leaves the folder', /can't be a file/, 'files.0.name', '../x'],
    ['a file on its own', /can't be a file/, 'files.0.name', 'weightcast-manifest.json'],
    ['the marker', /can't be a file/, 'files.0.name', 'STABLE'],
    ['a shard in another folder', /can't be a file/, 'shards.0.name', '/etc/passwd'],
    ['one name for two files', /two files/, 'files.0.name', 'model.safetensors'],
    ['a nonce that is none', /nonce/, 'publisher.nonce', '../../x'],
  ])('with %s is refused', (_, message, path, value) => {
    const bytes = edited(fullManifest(), (json) => {
      const keys = path.split('.');
      const last = keys.pop() as string;
      const owner = keys.reduce((node, key) => node[key] as Json, json);
      owner[last] = value;
    });
    expect(() => parse(bytes)).toThrow(refused(message));
  });

  it.each([
    [
      'a duplicate key',
      '{"format":"weightcast-manifest","format":"weightcast-manifest"}',
      /a second "format"/,
    ],
    ['text behind its end', '{} x', /after the end/],
    ['no object', '[]', /format is not/],
    ['null', 'null', /format is not/],
    ['a bottomless list', '['.repeat(1000), /too deeply/],
    ['nothing in it', '', /expected/],
    ['half a document', encode(fullManifest()).toString().slice(0, -30), /expected|end/],
  ])('that is %s is refused', (_, document, message) => {
    expect(() => parse(Buffer.from(document))).toThrow(refused(message));
  });

  it('that is not UTF-8 is refused', () => {
    expect(() => parse(Buffer.from([0x7b, 0xff, 0x7d]))).toThrow(refused(/UTF-8/));
  });

  it('ignores members that a later weightcast may add', () => {
    const bytes = edited(fullManifest(), (json) => {
      json.comment = { anything: [1, 2.5, 'x', null] };
    });
    expect(parse(bytes)).toEqual(fullManifest());
  });
});

describe('in a folder', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'weightcast-manifest-'));
  });
  afterEach(() => rm(folder, { recursive: true }));

  it('a manifest is written once', async () => {
    await writeManifest(folder, fullManifest(), { sync: true });
    expect(await readManifest(folder, { version: 5 })).toEqual(fullManifest());
    await expect(writeManifest(folder, deltaManifest(), { sync: false })).rejects.toMatchObject({
      code: 'EEXIST',
    });
    expect(await readManifest(folder)).toEqual(fullManifest());
  });

  it('a manifest of another version is refused', async () => {
    await writeManifest(folder, fullManifest(), { sync: false });
    await expect(readManifest(folder, { version: 6 })).rejects.toThrow(refused(/of version 5, not 6/));
  });

  it('that has none, or is none, there is no version', async () => {
    await expect(readManifest(folder)).rejects.toMatchObject({ code: 'WC_VERSION_NOT_FOUND' });
    await expect(readManifest(join(folder, 'x'))).rejects.toMatchObject({ code: 'WC_VERSION_NOT_FOUND' });
  });

  it('a manifest that is too large is not read', async () => {
    const path = join(folder, 'weightcast-manifest.json');
    await writeFile(path, '');
    await truncate(path, MAX_MANIFEST_BYTES + 1);
    await expect(readManifest(folder)).rejects.toThrow(refused(/more than/));
  });

  it('the file ends with a line feed and has a line for each tensor', async () => {
    await writeManifest(folder, fullManifest(), { sync: false });
    const text = await readFile(join(folder, 'weightcast-manifest.json'), 'utf8');
    expect(text.match(/^ {3}\{"name":/gm)).toHaveLength(3);
    expect(text.endsWith('}\n')).toBe(true);
  });
});

describe('the digest of a version', () => {
  const tensor = (name: string, bytes = name) => ({ name, dtype: 'U8', shape: [1, 2], sha256: sha(bytes) });
  const digest = (...tensors: ReturnType<typeof tensor>[]) => runToEnd(versionDigestSteps(tensors));

  it('is SHA-256 over one sorted line a tensor', () => {
    const lines = `a\tU8\t1,2\t${sha('a')}\nb\tU8\t1,2\t${sha('b')}\n`;
    expect(digest(tensor('b'), tensor('a'))).toBe(sha(lines));
  });

  it('does not depend on the order, also where UTF-16 sorts otherwise than bytes do', () => {
    const [high, astral] = [tensor('\uff5e'), tensor('\u{1f600}')];
    const line = ({ name, sha256 }: typeof high) => `${name}\tU8\t1,2\t${sha256}\n`;
    expect(digest(astral, high)).toBe(sha(line(high) + line(astral)));
    expect(digest(high, astral)).toBe(digest(astral, high));
  });

  it('is another one for other bytes', () => {
    expect(digest(tensor('a', 'x'))).not.toBe(digest(tensor('a', 'y')));
  });
});

function withoutDigests(): Manifest {
  const { shards, ...rest } = fullManifest();
  const bare = shards.map((shard) => ({
    ...shard,
    tensors: shard.tensors.map((tensor) => ({ ...tensor, sha256: null })),
  }));
  return { ...rest, digest: null, digestAlgorithm: 'none', shards: bare };
}
