import { mkdtemp, rename, rm, unlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { writeTinyModel } from '../../src/testing/index.js';
import { openCheckpoint } from '../../src/weights/checkpoint.js';
import { requireUnchanged } from '../../src/weights/unchanged.js';

async function withCheckpoint(body: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'weightcast-unchanged-'));
  try {
    await writeTinyModel(directory, { shards: 2 });
    await body(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
}

const SHARD = 'model-00002-of-00002.safetensors';

it('takes files for what they were while nobody touches them', () =>
  withCheckpoint(async (directory) => {
    const { files } = await openCheckpoint(directory);
    await expect(requireUnchanged(files)).resolves.toBeUndefined();
  }));

it.each([
  ['written to', (path: string) => utimes(path, 1, 1)],
  [
    'written to',
    async (path: string) => {
      await writeFile(`${path}.new`, 'x');
      await rename(`${path}.new`, path);
    },
  ],
  ['removed', (path: string) => unlink(path)],
])('names the file that was %s', (what, change) =>
  withCheckpoint(async (directory) => {
    const { files } = await openCheckpoint(directory);
    await change(join(directory, SHARD));
    await expect(requireUnchanged(files)).rejects.toMatchObject({
      code: 'WC_CHECKPOINT_CHANGED',
      message: expect.stringMatching(new RegExp(`${SHARD} was ${what}`)),
    });
  }),
);

it('does not mind that a file is gone which everybody has read', () =>
  withCheckpoint(async (directory) => {
    const { files } = await openCheckpoint(directory);
    await unlink(join(directory, SHARD));
    await expect(requireUnchanged(files, { mayBeGone: true })).resolves.toBeUndefined();
  }));
