import { mkdir, mkdtemp, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { writeTinyModel } from '../../src/testing/tiny-model.js';
import { readManifest } from '../../src/transports/filesystem/manifest.js';
import { MAIN, Spawned, weightcast } from './spawned.js';

let folder: string;
let model: string;
let into: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weightcast-cli-publish-'));
  model = join(folder, 'model');
  into = join(folder, 'published');
  await mkdir(model);
  await writeTinyModel(model);
});
afterEach(() => rm(folder, { recursive: true }));

const publish = (...args: readonly string[]) => weightcast(['publish', model, '--into', into, ...args]);

describe('weightcast publish', () => {
  test('publishes, and says what and where', async () => {
    const { code, out, err } = await publish('--version', '12');
    const { digest } = await readManifest(join(into, 'step_12'));
    expect([code, err]).toEqual([0, 'opening\nwriting\n']);
    expect(out).toContain(`published ${join(into, 'step_12')}\n`);
    expect(out).toContain('25 tensors in 1 shard, 1 other file');
    expect(out).toContain(`digest ${digest}`);
  });

  test('prints one JSON document', async () => {
    const { code, out } = await publish('--version', '3', '--json', '--shard-size', '100kB', '--no-fsync');
    const { path, kind, tensors, files, swept, pruned } = JSON.parse(out);
    expect([code, path, kind, tensors]).toEqual([0, join(into, 'step_3'), 'full', 25]);
    expect(files.length).toBeGreaterThan(4);
    expect([swept, pruned]).toEqual([[], null]);
  });

  test('publishes what changed, which follow makes whole again', async () => {
    const next = join(folder, 'next');
    const last = join(folder, 'last');
    await writeTinyModel(next, { seed: 1 });
    await writeTinyModel(last, { seed: 2 });
    const version = (weights: string, ...args: string[]) =>
      weightcast(['publish', weights, '--into', into, '--quiet', ...args]);
    await version(model, '--version', '0');
    expect((await version(next, '--version', '1', '--delta')).err).toBe('');
    const unsaid = await version(last, '--version', '2', '--delta');
    expect([unsaid.code, unsaid.err]).toEqual([1, expect.stringContaining('--delta-base')]);
    expect((await version(last, '--version', '2', '--delta-base', next)).code).toBe(0);
    expect((await readManifest(join(into, 'step_2'))).kind).toBe('delta');
    const local = join(folder, 'local');
    const { code, out } = await weightcast([
      'follow',
      into,
      '--into',
      local,
      '--max-versions',
      '3',
      '--no-fsync',
    ]);
    expect([code, out]).toEqual([0, expect.stringMatching(/version 0: .*\nversion 1: .*\nversion 2: /)]);
    const { kind, digest } = await readManifest(join(local, 'step_2'));
    expect([kind, digest]).toEqual(['full', (await readManifest(join(into, 'step_2'))).digest]);
  });

  test('says that a delta is not compressed where libzstd is not installed, and what to do', async () => {
    // Found before the system's, and not a library: as if there were none.
    await writeFile(join(folder, 'libzstd.so.1'), 'none');
    const next = join(folder, 'next');
    await writeTinyModel(next, { seed: 1 });
    await publish('--version', '0', '--quiet');
    const args = ['publish', next, '--into', into, '--version', '1', '--delta'];
    const { code, err } = await weightcast(args, { LD_LIBRARY_PATH: folder });
    expect([code, err]).toEqual([0, expect.stringMatching(/libzstd is not installed.*libzstd1/)]);
    expect((await readManifest(join(into, 'step_1'))).kind).toBe('delta');
  });

  test('names a libzstd that is not where it was said to be, and so does follow', async () => {
    const next = join(folder, 'next');
    const local = join(folder, 'local');
    await writeTinyModel(next, { seed: 1 });
    const missing = { WEIGHTCAST_ZSTD_LIBRARY: join(folder, 'libzstd.so.1') };
    const refused = { code: 1, err: expect.stringContaining('WC_ZSTD_NOT_FOUND') };
    await publish('--version', '0', '--quiet');
    const args = ['publish', next, '--into', into, '--version', '1', '--delta'];
    expect(await weightcast(args, missing)).toMatchObject(refused);
    expect((await readdir(into)).sort()).toEqual(['.weightcast', 'step_0']);
    expect((await weightcast(args)).code).toBe(0);
    const follow = ['follow', into, '--into', local, '--max-versions', '2', '--no-fsync'];
    expect(await weightcast(follow, missing)).toMatchObject(refused);
    expect((await readdir(local)).sort()).toEqual(['.weightcast', 'step_0']);
  });

  test('is quiet', async () => {
    const { code, out, err } = await publish(
      '--version',
      '3',
      '--quiet',
      '--commit',
      'manifest-last',
      '--no-digests',
    );
    expect([code, out, err]).toEqual([0, '', '']);
    expect((await readManifest(join(into, 'step_3'))).digestAlgorithm).toBe('none');
  });

  test('says that a version is there already, and by whom', async () => {
    await publish('--version', '1', '--quiet');
    const { code, out } = await publish('--version', '1', '--json');
    expect(code).toBe(1);
    expect(JSON.parse(out).error).toMatchObject({
      code: 'WC_PUBLISH_EXISTS',
      message: expect.stringContaining('step_1 was published'),
    });
  });

  test('removes old versions afterwards', async () => {
    for (const version of ['1', '2', '3']) await publish('--version', version, '--quiet');
    const { code, out } = await publish('--version', '4', '--keep', '2', '--json');
    expect(code).toBe(0);
    // All are younger than a minute.
    expect(JSON.parse(out).pruned).toMatchObject({
      removed: [],
      kept: [4, 3, 2, 1].map((version) => ({ version, reason: version > 2 ? 'newest' : 'young' })),
    });
  });

  test.each([
    [['--version', 'x']],
    [['--version', '-1']],
    [['--version', '1', '--shard-size', 'large']],
    [['--version', '1', '--grace', 'x']],
    [['--version', '1', '--keep', '1']],
    [['--version', '1', '--commit', 'copy']],
    [[]],
  ])('refuses %j as wrong usage, and publishes nothing', async (args) => {
    const { code, out } = await publish(...args, '--json');
    expect(code).toBe(2);
    expect(JSON.parse(out).error).toMatchObject({ code: 'WC_CONFIG_INVALID' });
    expect(await readdir(folder)).toEqual(['model']);
  });

  test('removes what it wrote when it is interrupted', async () => {
    const large = join(folder, 'large');
    await mkdir(large);
    const bytes = 1.5e9;
    const header = JSON.stringify({ a: { dtype: 'U8', shape: [bytes], data_offsets: [0, bytes] } });
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    const file = join(large, 'model.safetensors');
    await writeFile(file, Buffer.concat([length, Buffer.from(header)]));
    await truncate(file, 8 + header.length + bytes);
    await using spawned = new Spawned([MAIN, 'publish', large, '--into', into, '--version', '1', '--json']);
    await spawned.err.seen('writing');
    spawned.signal('SIGINT');
    const { code, out } = await spawned.ended;
    expect(code).toBe(130);
    expect(JSON.parse(out).error.code).toBe('WC_UPDATE_ABORTED');
    expect(await readdir(into)).toEqual(['.weightcast']);
    expect(await readdir(join(into, '.weightcast'))).toEqual([]);
  });

  test('--version of the program itself still tells its version', async () => {
    expect((await weightcast(['--version'])).out).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});
