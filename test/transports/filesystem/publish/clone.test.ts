/** Copies of a published version on a file system whose files can share blocks: emulated, since one is rare where tests run. */
import { execFileSync } from 'node:child_process';
import { mkdtemp, open, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { publish } from '../../../../src/transports/filesystem/publish/index.js';
import { openPublished } from '../../../../src/transports/filesystem/published/index.js';
import { writeCheckpoint } from '../../../../src/weights/write.js';
import { weightcast } from '../../../cli/spawned.js';
import { writeChanged } from '../../../weights/changed.js';

const SOURCE = fileURLToPath(new URL('share.c', import.meta.url));

let root = '';
let library = '';
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'weightcast-clone-'));
  library = join(root, 'share.so');
  execFileSync('cc', ['-O1', '-Wall', '-Wextra', '-Werror', '-shared', '-fPIC', SOURCE, '-o', library]);
});
afterAll(() => rm(root, { recursive: true }));

let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(join(root, 'case-'));
});

const shared = () => join(folder, 'shared');
const local = () => join(folder, 'local');

/** A version of three shards, in `shared`. */
async function published(digests = true): Promise<string> {
  const tensors = [
    { name: 'model.embed_tokens.weight', dtype: 'BF16', shape: [512, 64] },
    { name: 'model.layers.0.mlp.weight', dtype: 'F32', shape: [128, 64] },
    { name: 'model.empty', dtype: 'U8', shape: [0] },
    { name: 'model.norm.weight', dtype: 'BF16', shape: [20_000] },
  ] as const;
  await writeCheckpoint(join(folder, 'checkpoint'), tensors, { shards: 2, seed: 3 });
  const options = { directory: shared(), version: 7, shardBytes: 70_000, digests, fsync: false };
  return (await publish(join(folder, 'checkpoint'), options)).path;
}

/** Follows once; how many files came to share blocks. */
async function followed(env: Record<string, string> = {}) {
  const notes = join(folder, 'notes');
  const args = ['follow', shared(), '--into', local(), '--max-versions', '1', '--json', '--interval', '0.01'];
  const ended = await weightcast(args, { LD_PRELOAD: library, WEIGHTCAST_TEST_SHARED: notes, ...env });
  const count = (await readFile(notes, 'utf8').catch(() => '')).split('\n').length - 1;
  return { ...ended, count };
}

describe('a copy on such a file system', () => {
  it('shares the blocks of every shard, and is hashed as one that is written', async () => {
    const path = await published();
    const { code, count } = await followed();
    expect({ code, count }).toEqual({ code: 0, count: 3 });
    await using there = await openPublished(shared(), { version: 7 });
    await using here = await openPublished(local(), { version: 7, verify: 'all' });
    expect(here.manifest).toMatchObject({ digest: there.manifest.digest, shards: there.manifest.shards });
    expect((await readdir(here.path)).sort()).toEqual((await readdir(path)).sort());
    expect(here.manifest.publisher).not.toEqual(there.manifest.publisher);
  });

  it('shares the blocks of the shards of which a delta changes nothing', async () => {
    await published();
    await followed();
    const next = join(folder, 'next');
    const only = ({ name }: { readonly name: string }) => name === 'model.norm.weight';
    await writeChanged(join(folder, 'checkpoint'), next, { fraction: 0.01, seed: 1, only });
    await publish(next, { directory: shared(), version: 8, delta: true, fsync: false });
    // Three by the first version.
    expect(await followed()).toMatchObject({ code: 0, count: 3 + 2 });
    await using here = await openPublished(local(), { version: 8, verify: 'all' });
    for (const { name } of here.manifest.shards) expect((await stat(join(here.path, name))).nlink).toBe(1);
  });

  it('is written where only some of the files could be shared', async () => {
    await published();
    const { code, count } = await followed({ WEIGHTCAST_TEST_SHARE_UNTIL: '2' });
    expect({ code, count }).toEqual({ code: 0, count: 2 });
    await using here = await openPublished(local(), { version: 7, verify: 'all' });
    expect(here.manifest.shards).toHaveLength(3);
  });

  it('is written where there is no digest to hold it against', async () => {
    await published(false);
    expect(await followed()).toMatchObject({ code: 0, count: 0 });
  });

  it('is refused where the bytes went bad, and nothing of it stays', async () => {
    const path = await published();
    const shard = (await readdir(path)).find((name) => name.startsWith('model-00002'));
    const file = await open(join(path, shard as string), 'r+');
    const { size } = await file.stat();
    await file.write(Buffer.from([0x55, 0xaa]), 0, 2, size - 2);
    await file.close();
    const args = ['publish', path, '--into', local(), '--version', '7', '--json'];
    const ended = await weightcast(args, {
      LD_PRELOAD: library,
      WEIGHTCAST_TEST_SHARED: join(folder, 'notes'),
    });
    expect(ended).toMatchObject({ code: 1, err: expect.stringContaining('WC_VERSION_CORRUPT') });
    expect(await readFile(join(folder, 'notes'), 'utf8')).toBe('shared\n'.repeat(3));
    expect(await readdir(local())).toEqual(['.weightcast']);
    expect(await readdir(join(local(), '.weightcast'))).toEqual([]);
  });
});
