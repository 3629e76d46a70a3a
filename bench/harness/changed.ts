/** A checkpoint that differs from another one in a share of its elements, as those of two training steps do; kept in the scratch folder. */
import { cp, open, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Checkpoint, openCheckpoint } from '#weightcast/weights/checkpoint.js';
import type { CaseContext } from '../case.js';

/** Flips the lowest bit of so many elements of each tensor, evenly spread. @returns the directory */
export async function changedFrom(context: CaseContext, base: Checkpoint, fraction: number): Promise<string> {
  if (base.path === null) throw new Error('the base is a directory');
  const directory = `${base.path}-changed-${fraction}`;
  const isThere = await readdir(directory).then(
    () => true,
    () => false,
  );
  if (isThere) return directory;
  context.log(`writing ${directory} (once)`);
  const draft = join(`${directory}.draft-${process.pid}`);
  try {
    await cp(base.path, draft, { recursive: true });
    for (const { dtype, range } of (await openCheckpoint(draft)).tensors) {
      if (range.kind !== 'file') continue;
      const item = dtype.bits / 8;
      const changes = Math.floor((range.byteLength / item) * fraction);
      const file = await open(range.path, 'r+');
      try {
        const bytes = Buffer.alloc(range.byteLength);
        await file.read(bytes, 0, bytes.length, range.offset);
        for (let i = 0; i < changes; i += 1) {
          const at = Math.floor(i / fraction) * item;
          bytes[at] = (bytes[at] as number) ^ 1;
        }
        await file.write(bytes, 0, bytes.length, range.offset);
      } finally {
        await file.close();
      }
    }
    await rename(draft, directory);
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
  return directory;
}
