import { randomUUID } from 'node:crypto';
import { mkdir, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { writeError } from '../../../../src/transports/filesystem/publish/durable.js';
import { publish } from '../../../../src/transports/filesystem/publish/index.js';
import { encodeOwner, newOwner } from '../../../../src/transports/filesystem/publish/owner.js';
import { withDirectory, writeSafetensors } from '../../../weights/files.js';
import { everythingIn } from './support.js';

// test/crash strikes a real publication at every call; this is what it found.
describe('a publisher', () => {
  it('names the errors that Node has no name for', () => {
    const cause = Object.assign(new Error("Unknown system error -122, open '/p'"), {
      errno: -122,
      code: 'Unknown system error -122',
    });
    expect(writeError('/p', cause)).toMatchObject({
      code: 'WC_FILE_WRITE',
      message: "/p: EDQUOT, open '/p'",
      details: { errnoName: 'EDQUOT' },
    });
  });

  it('says so where no folder can be made, and does not try for ever', async () => {
    await withDirectory(async (directory) => {
      const source = join(directory, 'model.safetensors');
      await writeSafetensors(source, { a: { dtype: 'F32', shape: [2], bytes: new Uint8Array(8) } });
      await writeFile(join(directory, 'file'), '');
      // What is not there can't be made there either: ENOENT, from a folder that is there.
      for (const [into, errnoName] of [
        ['/proc/policy', 'ENOENT'],
        ['/proc/policy/deep', 'ENOENT'],
        [join(directory, 'file', 'policy'), 'ENOTDIR'],
      ] as const) {
        await expect(publish(source, { directory: into, version: 1 })).rejects.toMatchObject({
          code: 'WC_FILE_WRITE',
          details: { errnoName },
        });
      }
    });
  });

  it('takes a folder over whose owner died over the manifest, or while it said so; and what it asked for the time with goes', async () => {
    await withDirectory(async (directory) => {
      const source = join(directory, 'model.safetensors');
      await writeSafetensors(source, { a: { dtype: 'F32', shape: [2], bytes: new Uint8Array(8) } });
      const into = join(directory, 'published');
      const nonce = 'deaddeaddeaddead';
      const owner = await newOwner(nonce, 7);
      const dead = { ...owner, holder: { ...owner.holder, startTicks: owner.holder.startTicks - 1 } };
      await mkdir(join(into, 'step_7'), { recursive: true });
      await mkdir(join(into, '.weightcast'));
      await writeFile(join(into, '.weightcast', `owner-${nonce}.json`), encodeOwner(dead));
      const probe = join(into, '.weightcast', `.weightcast-${randomUUID()}`);
      await writeFile(probe, '');
      await utimes(probe, 1, 1);
      await writeFile(join(into, 'step_7', `weightcast-owner-${nonce}.json`), encodeOwner(dead).slice(0, 20));
      await writeFile(join(into, 'step_7', 'weightcast-manifest.json'), '{ "format": "weightcast-man');
      await publish(source, { directory: into, version: 7, commit: 'manifest-last' });
      expect((await everythingIn(into)).filter((name) => !name.startsWith('step_7'))).toEqual([]);
      expect((await everythingIn(join(into, 'step_7'))).filter((name) => name.includes(nonce))).toEqual([]);
    });
  });
});
