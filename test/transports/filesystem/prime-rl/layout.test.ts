import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { broadcastFolders, listSteps } from '../../../../src/transports/filesystem/prime-rl/index.js';

async function withFolders(folders: readonly string[], use: (run: string) => Promise<void>): Promise<void> {
  const run = await mkdtemp(join(tmpdir(), 'weightcast-layout-'));
  try {
    for (const folder of folders) await mkdir(join(run, folder), { recursive: true });
    await use(run);
  } finally {
    await rm(run, { recursive: true });
  }
}

it('reads versions from the names of the folders, newest first, and nothing else', async () => {
  const others = ['step_x', 'step_', 'step_1.tmp', 'xstep_1', `step_${'9'.repeat(30)}`];
  await withFolders(['step_2', 'step_10', 'step_0', ...others], async (run) => {
    expect((await listSteps(run)).map(({ version }) => version)).toEqual([10, 2, 0]);
    expect(await listSteps(join(run, 'none'))).toEqual([]);
  });
});

it('finds the broadcasts of a run, of its runs, and of a folder that is one', async () => {
  await withFolders(
    ['broadcasts/step_1', 'run_a/broadcasts', 'run_default/broadcasts', 'run_b'],
    async (run) => {
      expect(await broadcastFolders(run)).toEqual(
        ['broadcasts', 'run_a/broadcasts', 'run_default/broadcasts'].map((folder) => join(run, folder)),
      );
      expect(await broadcastFolders(join(run, 'broadcasts'))).toEqual([join(run, 'broadcasts')]);
      expect(await broadcastFolders(join(run, 'run_b'))).toEqual([]);
    },
  );
});
