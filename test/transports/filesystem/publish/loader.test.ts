/** What loaders of engines see that know nothing of manifests: they take each *.safetensors that lies in a version's folder. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { followPublished } from '../../../../src/transports/filesystem/follow/index.js';
import { type CommitMode, publish } from '../../../../src/transports/filesystem/publish/index.js';
import { writeCheckpoint } from '../../../../src/weights/write.js';
import { writeChanged } from '../../../weights/changed.js';
import { withDirectory } from '../../../weights/files.js';

const TENSORS = Array.from({ length: 6 }, (_, i) => ({ name: `w${i}`, dtype: 'F32', shape: [1 << 18] }));
const SHARD_BYTES = 4 << 18;

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

/** The shards in a version's folder with their sizes, and whether it is marked. */
function look(step: string): { readonly shards: string; readonly isMarked: boolean } {
  const names = namesIn(step);
  const shards = names.filter((name) => name.endsWith('.safetensors'));
  return {
    shards: shards.map((name) => `${name} ${statSync(join(step, name)).size}`).join(),
    isMarked: names.includes('STABLE'),
  };
}

/** Whatever is seen of the folder from before the work to after it. */
async function seenDuring(step: string, work: () => Promise<unknown>) {
  const seen: ReturnType<typeof look>[] = [look(step)];
  let going = true;
  const looking = (async () => {
    for (; going; await turn()) seen.push(look(step));
  })();
  await work().finally(() => {
    going = false;
  });
  await looking;
  return [...seen, look(step)];
}

async function published(folder: string, commit: CommitMode) {
  const [source, directory] = [join(folder, 'source'), join(folder, 'shared')];
  await writeCheckpoint(source, TENSORS, { seed: 1 });
  const seen = await seenDuring(join(directory, 'step_1'), () =>
    publish(source, { directory, version: 1, commit, shardBytes: SHARD_BYTES }),
  );
  return { seen, source, directory, whole: seen.at(-1)?.shards as string };
}

it('is all shards of a version or none, also of one that is made of a delta', async () => {
  await withDirectory(async (folder) => {
    const { seen, source, directory, whole } = await published(folder, 'rename');
    expect(whole.split(',')).toHaveLength(6);
    expect(new Set(seen.map(({ shards }) => shards))).toEqual(new Set(['', whole]));
    const next = join(folder, 'next');
    await writeChanged(source, next, { fraction: 0.01, seed: 1, only: ({ name }) => name !== 'w2' });
    await publish(next, { directory, version: 2, delta: true });
    const into = join(folder, 'local');
    const held = await seenDuring(join(into, 'step_2'), () =>
      followPublished(directory, { into, maxVersions: 2, pollMs: 5, signal: AbortSignal.timeout(60_000) }),
    );
    expect(new Set(held.map(({ shards }) => shards))).toEqual(new Set(['', whole]));
    // One has no shard that an engine could take for it.
    expect(look(join(directory, 'step_2')).shards).toBe('');
  });
});

it('where nothing can be renamed is all shards once it is marked', async () => {
  await withDirectory(async (folder) => {
    const { seen, whole } = await published(folder, 'manifest-last');
    const marked = seen.filter(({ isMarked }) => isMarked).map(({ shards }) => shards);
    expect(new Set(marked)).toEqual(new Set([whole]));
  });
});
