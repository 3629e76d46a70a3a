/** A version that appears whole: written beside the others under another name, then renamed. */
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { leftoverFolder, stepFolder } from '../layout.js';
import { writeManifest } from '../manifest.js';
import type { Draft, DraftPlace } from './draft.js';
import { codeOf, syncFolder, writeNew, writing } from './durable.js';
import { existsError } from './exists.js';
import { mark } from './marker.js';

/** What a rename says when the other name is taken: a folder with something in it, or a file. */
const TAKEN: ReadonlySet<unknown> = new Set(['ENOTEMPTY', 'EEXIST', 'ENOTDIR']);

export async function openRename(place: DraftPlace): Promise<Draft> {
  const { directory, version, owner, publisher, swept, sync } = place;
  const folder = leftoverFolder(directory, { kind: 'partial', nonce: owner.nonce, version });
  const step = stepFolder(directory, version);
  // Told now, not when a whole model has been written beside it.
  if (await isTaken(step)) throw await existsError(step);
  await writing(folder, mkdir(folder));
  let committed = false;
  return {
    publisher,
    swept,
    nameNonce: null,
    path: (name) => join(folder, name),
    write: (name, bytes) => writing(join(folder, name), writeNew(join(folder, name), bytes, sync)),
    async commit(manifest) {
      await writing(folder, writeManifest(folder, manifest, { sync }));
      if (sync) await writing(folder, syncFolder(folder));
      try {
        await writing(step, rename(folder, step));
      } catch (error) {
        throw TAKEN.has(codeOf((error as Error).cause)) ? await existsError(step, error) : error;
      }
      try {
        if (sync) await writing(directory, syncFolder(directory));
        await writing(step, mark(step, manifest.kind, sync));
      } catch (error) {
        // It may not survive a power loss: better none than one that may vanish.
        await rename(step, folder).catch(() => undefined);
        throw error;
      }
      committed = true;
      return step;
    },
    async [Symbol.asyncDispose]() {
      if (!committed) await rm(folder, { recursive: true, force: true }).catch(() => undefined);
    },
  };
}

/** True for a folder with something in it, and for a file: a rename would not replace them. */
async function isTaken(step: string): Promise<boolean> {
  return readdir(step).then(
    (names) => names.length > 0,
    (error: unknown) => codeOf(error) === 'ENOTDIR',
  );
}
