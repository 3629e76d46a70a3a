import { mkdtemp, open, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { applyDelta } from '../../../../src/transports/filesystem/delta/index.js';
import { followPublished } from '../../../../src/transports/filesystem/follow/index.js';
import { publish } from '../../../../src/transports/filesystem/publish/index.js';
import { openPublished } from '../../../../src/transports/filesystem/published/index.js';
import { openCheckpoint } from '../../../../src/weights/checkpoint.js';
import { type TensorToWrite, writeCheckpoint } from '../../../../src/weights/write.js';

const TENSORS: readonly TensorToWrite[] = [
  { name: 'embed', dtype: 'BF16', shape: [1000, 700] },
  { name: 'norm', dtype: 'F32', shape: [33] },
  { name: 'scale', dtype: 'F8_E4M3', shape: [100, 3] },
  { name: 'empty', dtype: 'BF16', shape: [0, 4] },
];

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weightcast-delta-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A checkpoint with a few elements of `embed` moved by one, `step` times. */
async function checkpoint(name: string, step: number, tensors = TENSORS): Promise<string> {
  const path = join(folder, name);
  await writeCheckpoint(path, tensors, { seed: 1, shards: 2 });
  await writeFile(join(path, 'config.json'), JSON.stringify({ step: Math.floor(step / 2) }));
  const { tensors: written } = await openCheckpoint(path);
  const embed = written.find((tensor) => tensor.name === 'embed')?.range;
  if (embed?.kind !== 'file') throw new Error('no embed');
  await using file = await open(embed.path, 'r+');
  for (let i = 0; i < 7000 * step; i += 7) {
    await file.write(Buffer.of(i % 251), 0, 1, embed.offset + ((2 * i * 19) % embed.byteLength));
  }
  return path;
}

const contentOf = async (path: string) => {
  const { tensors } = await openCheckpoint(path);
  const found = new Map<string, string>();
  for (const { name, dtype, shape, range } of tensors) {
    if (range.kind !== 'file') continue;
    const bytes = (await readFile(range.path)).subarray(range.offset, range.offset + range.byteLength);
    found.set(name, `${dtype.name} [${shape}] ${bytes.toString('base64')}`);
  }
  return new Map([...found].sort());
};

describe('a chain of deltas', () => {
  it('gives the very weights of each version, small files too, and the digest of a full publication', async () => {
    const directory = join(folder, 'chain');
    const into = join(folder, 'chain-local');
    const checkpoints = [];
    for (const step of [0, 1, 2, 3]) checkpoints.push(await checkpoint(`chain-${step}`, step));
    for (const [version, path] of checkpoints.entries()) {
      const deltaBase = version === 0 ? undefined : checkpoints[version - 1];
      await publish(path, { directory, version, delta: true, deltaBase, anchorEvery: 3, fsync: false });
    }
    const kinds = [];
    for (const version of [0, 1, 2, 3]) {
      await using published = await openPublished(directory, { version });
      kinds.push(published.manifest.kind);
      if (published.manifest.kind === 'delta') {
        expect(published.manifest.files.reduce((sum, { byteLength }) => sum + byteLength, 0)).toBeLessThan(
          30_000,
        );
      }
    }
    expect(kinds).toEqual(['full', 'delta', 'delta', 'full']);

    await publish(join(directory, 'step_0'), { directory: into, version: 0, fsync: false });
    for (const version of [1, 2]) {
      await using delta = await openPublished(directory, { version });
      await using base = await openPublished(into, { version: version - 1 });
      const made = await applyDelta(delta, base, { into, version, fsync: false });
      expect(made.manifest).toMatchObject({ kind: 'full', digest: delta.manifest.digest, base: null });
      await using whole = await openPublished(into, { version, verify: 'all' });
      expect(await contentOf(whole.path)).toEqual(await contentOf(checkpoints[version] as string));
      expect(await readFile(join(whole.path, 'config.json'), 'utf8')).toBe(
        await readFile(join(checkpoints[version] as string, 'config.json'), 'utf8'),
      );
    }
    const full = await publish(checkpoints[2] as string, { directory: join(folder, 'whole'), version: 2 });
    await using second = await openPublished(into, { version: 2 });
    expect(full.manifest.digest).toBe(second.manifest.digest);
  });

  it('is followed into full versions, from the last full one on or from what is held', async () => {
    const directory = join(folder, 'followed');
    const into = join(folder, 'followed-local');
    const paths: string[] = [];
    for (const step of [0, 1, 2]) paths.push(await checkpoint(`followed-${step}`, step));
    const options = { directory, delta: true, fsync: false };
    const follow = async (maxVersions: number) => {
      const made: number[] = [];
      const refused: unknown[] = [];
      await followPublished(directory, {
        ...{ into, maxVersions, pollMs: 5, fsync: false, signal: AbortSignal.timeout(60_000) },
        onVersion: ({ version }) => void made.push(version),
        onRefused: (_, error) => void refused.push(error),
      });
      expect(refused).toEqual([]);
      return made;
    };
    await publish(paths[0] as string, { ...options, version: 0 });
    await publish(paths[1] as string, { ...options, version: 1 });
    expect(await follow(2)).toEqual([0, 1]);
    await publish(paths[2] as string, { ...options, version: 2, deltaBase: paths[1] });
    expect(await follow(1)).toEqual([2]);
    await using whole = await openPublished(into, { version: 2, verify: 'all' });
    expect(await contentOf(whole.path)).toEqual(await contentOf(paths[2] as string));
  });

  it('carries tensors that are new, gone, or have become others', async () => {
    const directory = join(folder, 'others');
    const before = await checkpoint('others-0', 0);
    const changed: TensorToWrite[] = [
      { name: 'embed', dtype: 'BF16', shape: [700, 1000] },
      { name: 'norm', dtype: 'F32', shape: [34] },
      { name: 'scale', dtype: 'I8', shape: [100, 3] },
      { name: 'lm_head', dtype: 'F64', shape: [5] },
    ];
    const after = await checkpoint('others-1', 1, changed);
    await publish(before, { directory, version: 7, fsync: false });
    await publish(after, { directory, version: 9, delta: true, fsync: false });
    await using delta = await openPublished(directory, { version: 9 });
    await using base = await openPublished(directory, { version: 7 });
    expect(delta.manifest.base).toEqual({ version: 7, digest: base.manifest.digest });
    const made = await applyDelta(delta, base, {
      into: join(folder, 'others-local'),
      version: 9,
      fsync: false,
    });
    expect(await contentOf(made.path)).toEqual(await contentOf(after));
  });

  it('refuses another base than the one it was made of, and a checkpoint that is not the version before', async () => {
    const directory = join(folder, 'order');
    const into = join(folder, 'order-local');
    const paths = [];
    for (const step of [0, 1, 2]) paths.push(await checkpoint(`order-${step}`, step));
    const options = { directory, delta: true, fsync: false };
    await publish(paths[0] as string, { ...options, version: 0 });
    await publish(paths[1] as string, { ...options, version: 1 });
    await expect(publish(paths[2] as string, { ...options, version: 2 })).rejects.toMatchObject({
      code: 'WC_DELTA_BASE',
      remedy: expect.stringContaining('--delta-base'),
    });
    await expect(
      publish(paths[2] as string, { ...options, version: 2, deltaBase: paths[0] }),
    ).rejects.toMatchObject({ code: 'WC_DELTA_BASE' });
    await publish(paths[2] as string, { ...options, version: 2, deltaBase: paths[1] });
    await using delta = await openPublished(directory, { version: 2 });
    await using base = await openPublished(directory, { version: 0 });
    await expect(applyDelta(delta, base, { into, version: 2 })).rejects.toMatchObject({
      code: 'WC_DELTA_BASE',
    });
    await expect(readdir(into)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('makes nothing of a damaged delta or of a base with other bytes than its manifest says', async () => {
    const directory = join(folder, 'damage');
    const into = join(folder, 'damage-local');
    const published = await publish(await checkpoint('damage-0', 0), { directory, version: 0, fsync: false });
    const { path } = await publish(await checkpoint('damage-1', 1), { directory, version: 1, delta: true });
    await using delta = await openPublished(directory, { version: 1 });
    await using base = await openPublished(directory, { version: 0 });
    const options = { into, version: 1, fsync: false };
    const shard = join(published.path, published.manifest.shards[0]?.name as string);
    await using file = await open(shard, 'r+');
    const { buffer } = await file.read(Buffer.alloc(1), 0, 1, 5000);
    await file.write(Buffer.of((buffer[0] as number) ^ 1), 0, 1, 5000);
    await expect(applyDelta(delta, base, options)).rejects.toMatchObject({ code: 'WC_VERSION_CORRUPT' });
    await file.write(buffer, 0, 1, 5000);
    const changes = join(path, 'changes.wcdelta');
    const bytes = await readFile(changes);
    await truncate(changes, bytes.length - 1);
    await expect(applyDelta(delta, base, options)).rejects.toMatchObject({ code: 'WC_DELTA_INVALID' });
    expect((await readdir(into)).filter((name) => name.startsWith('step_'))).toEqual([]);
    expect((await readdir(join(into, '.weightcast'))).filter((name) => !name.startsWith('leases'))).toEqual(
      [],
    );
    await writeFile(changes, bytes);
    await applyDelta(delta, base, options);
  });
});
