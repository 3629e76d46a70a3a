/** Shards of which a delta changes nothing: they are not written again, and still proved. publish/clone.test.ts has file systems that share blocks. */
import { constants, copyFile, mkdtemp, open, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { type ApplyDeltaJob, native } from '../../../../src/native.js';
import { applyDelta } from '../../../../src/transports/filesystem/delta/index.js';
import { followPublished } from '../../../../src/transports/filesystem/follow/index.js';
import { type Publication, publish } from '../../../../src/transports/filesystem/publish/index.js';
import { openPublished } from '../../../../src/transports/filesystem/published/index.js';
import { prune } from '../../../../src/transports/filesystem/retention/index.js';
import { writeCheckpoint } from '../../../../src/weights/write.js';
import { writeChanged } from '../../../weights/changed.js';
import { requireWhole, weightsIn } from '../publish/support.js';

const FAST = { fsync: false } as const;
const TENSORS = ['a', 'b', 'c', 'd'].map((name) => ({ name, dtype: 'BF16', shape: [64, 64] }));
/** A shard a tensor. */
const SHARD_BYTES = 2 * 64 * 64;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weightcast-unchanged-'));
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(folder, { recursive: true });
});

const shared = () => join(folder, 'shared');
const local = () => join(folder, 'local');

/** Version 1, in full, and version 2, in which only these tensors changed; both of them held. */
async function published(changed: readonly string[]): Promise<{ readonly source: string }> {
  const first = join(folder, 'first');
  const source = join(folder, 'second');
  await writeCheckpoint(first, TENSORS, { seed: 4 });
  await writeChanged(first, source, { fraction: 0.01, seed: 2, only: ({ name }) => changed.includes(name) });
  await publish(first, { directory: shared(), version: 1, shardBytes: SHARD_BYTES, ...FAST });
  await publish(source, { directory: shared(), version: 2, delta: true, ...FAST });
  return { source };
}

/** With what was written by it. */
async function followed(): Promise<{ readonly made: Publication; readonly written: readonly string[] }> {
  const apply = vi.spyOn(native(), 'applyDelta');
  const made: Publication[] = [];
  await followPublished(shared(), {
    ...{ into: local(), maxVersions: 2, pollMs: 5, signal: AbortSignal.timeout(60_000), ...FAST },
    onVersion: (each) => void made.push(each),
    onRefused: (_, error) => expect.unreachable(error.message),
  });
  const jobs: ApplyDeltaJob[] = apply.mock.calls.map(([job]) => job);
  const written = jobs.flatMap(({ targets }) => targets.map((path) => path.replace(/.*\//, '')));
  return { made: made[1] as Publication, written };
}

const shardsIn = async (path: string) =>
  (await readdir(path)).filter((name) => name.endsWith('.safetensors')).sort();

/** Whether blocks can be shared here: then no file has two names. */
async function sharesBlocks(path: string): Promise<boolean> {
  return copyFile(path, `${path}.shared`, constants.COPYFILE_FICLONE_FORCE).then(
    () => true,
    () => false,
  );
}

it('are there again without being written, in a version that is the very one that was published', async () => {
  const { source } = await published(['b']);
  const { made, written } = await followed();
  const shards = await shardsIn(made.path);
  expect(shards).toHaveLength(4);
  expect(written).toHaveLength(1);
  await requireWhole(made.path);
  expect(await weightsIn(made.path)).toEqual(await weightsIn(source));
  if (!(await sharesBlocks(join(folder, 'first', 'model.safetensors')))) {
    const links = await Promise.all(shards.map(async (name) => (await stat(join(made.path, name))).nlink));
    expect(links.sort()).toEqual([1, 2, 2, 2]);
  }
  // Retention takes the other name away, and nothing else.
  await publish(source, { directory: local(), version: 3, ...FAST });
  await prune(local(), { keep: 2, graceMs: 0 });
  expect((await readdir(local())).filter((name) => name.startsWith('step_')).sort()).toEqual([
    'step_2',
    'step_3',
  ]);
  await requireWhole(made.path);
});

it('are all of them where nothing changed', async () => {
  await published([]);
  const { made, written } = await followed();
  expect(written).toEqual([]);
  expect(made.version).toBe(2);
  await requireWhole(made.path);
});

it('are looked at: bytes that went bad since are found, and make no version', async () => {
  await published(['b']);
  await publish(join(shared(), 'step_1'), { directory: local(), version: 1, ...FAST });
  const held = join(local(), 'step_1');
  const [first = ''] = await shardsIn(held);
  await using file = await open(join(held, first), 'r+');
  await file.write(Buffer.from([0x5a]), 0, 1, SHARD_BYTES - 7);
  const refused: string[] = [];
  const stop = new AbortController();
  await followPublished(shared(), {
    ...{ into: local(), signal: stop.signal, pollMs: 5, ...FAST },
    onRefused: (version, { code, message }) => {
      refused.push(`${version} ${code} ${message.includes(`${held}, which the delta starts from`)}`);
      stop.abort();
    },
  });
  expect(refused).toEqual(['2 WC_VERSION_CORRUPT true']);
  expect((await readdir(local())).sort()).toEqual(['.weightcast', 'step_1']);
  expect((await readdir(join(local(), '.weightcast'))).filter((name) => name !== 'leases')).toEqual([]);
});

it("never get a second name in somebody else's folder", async () => {
  await published(['b']);
  await using delta = await openPublished(shared(), { version: 2 });
  await using base = await openPublished(shared(), { version: 1 });
  const { path } = await applyDelta(delta, base, { into: local(), version: 2, ...FAST });
  for (const name of await shardsIn(path)) expect((await stat(join(path, name))).nlink).toBe(1);
  await requireWhole(path);
});
