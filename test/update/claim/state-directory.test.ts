import { chmod, mkdir, mkdtemp, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openStateDirectory, statePlace } from '../../../src/update/claim/state-directory.js';

let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weightcast-state-directory-'));
});
afterEach(() => rm(folder, { recursive: true }));

it('is what the option says, else WEIGHTCAST_STATE_DIR, else the runtime folder, else one of this user in the temporary folder', () => {
  const env = { WEIGHTCAST_STATE_DIR: '/shared', XDG_RUNTIME_DIR: '/run/user/7' };
  expect(statePlace('/mine', env)).toEqual({ path: '/mine', chosen: true });
  expect(statePlace(undefined, env)).toEqual({ path: '/shared', chosen: true });
  expect(statePlace(undefined, { ...env, WEIGHTCAST_STATE_DIR: '' })).toEqual({
    path: '/run/user/7/weightcast',
    chosen: false,
  });
  const last = { path: join(tmpdir(), `weightcast-${process.getuid?.()}`), chosen: false };
  expect(statePlace(undefined, {})).toEqual(last);
  expect(statePlace(undefined, { XDG_RUNTIME_DIR: 'relative' })).toEqual(last);
});

it('is made for this user alone', async () => {
  const path = await openStateDirectory({ path: join(folder, 'deep', 'state'), chosen: true });
  expect((await stat(path)).mode & 0o777).toBe(0o700);
  expect(await openStateDirectory({ path, chosen: true })).toBe(path);
});

it('is refused where others could forge a claim', async () => {
  const path = join(folder, 'open');
  await mkdir(path);
  await chmod(path, 0o777);
  for (const chosen of [true, false]) {
    await expect(openStateDirectory({ path, chosen })).rejects.toMatchObject({
      code: 'WC_STATE_DIR',
      message: expect.stringContaining('others may write to it (mode 777)'),
      remedy: expect.stringContaining('WEIGHTCAST_STATE_DIR'),
    });
  }
  await chmod(path, 0o770);
  expect(await openStateDirectory({ path, chosen: true })).toBe(path);
  await expect(openStateDirectory({ path, chosen: false })).rejects.toMatchObject({ code: 'WC_STATE_DIR' });
});

it('in a place of our own choosing is no link, and nothing else than a directory', async () => {
  const link = join(folder, 'link');
  await symlink(folder, link);
  await chmod(folder, 0o700);
  await expect(openStateDirectory({ path: link, chosen: false })).rejects.toMatchObject({
    code: 'WC_STATE_DIR',
    message: expect.stringContaining('not a directory'),
  });
  // A person may name a link.
  expect(await openStateDirectory({ path: link, chosen: true })).toBe(link);
  const file = join(folder, 'file');
  await writeFile(file, '');
  await expect(openStateDirectory({ path: file, chosen: true })).rejects.toMatchObject({
    code: 'WC_STATE_DIR',
  });
});
