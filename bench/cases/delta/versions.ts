/** The version after a checkpoint, with a share of its elements changed at random places, for as long as somebody holds it. */
import { execFile } from 'node:child_process';
import { cp, mkdir, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { type Checkpoint, openCheckpoint } from '#weightcast/weights/checkpoint.js';
import type { TensorPair } from '#weightcast/weights/pairs.js';
import { pairSteps } from '#weightcast/weights/pairs.js';
import type { FileRange, Tensor } from '#weightcast/weights/tensor.js';
import { runToEnd } from '#weightcast/weights/yielding.js';
import type { CaseContext } from '../../case.js';
import { compile } from '../../harness/compile.js';
import { shardsOf } from '../publish/same-bytes.js';

/** How elements change: by 1 unit in the last place in three of four, 2 in three of four of the rest, and so on; or to any other value. */
export type Kind = 'ulp' | 'random';

export interface Versions extends AsyncDisposable {
  readonly base: Checkpoint;
  readonly next: Checkpoint;
  /** Elements that differ. */
  readonly changed: number;
  readonly pairs: readonly TensorPair[];
  /** Each file of the base with the same of the new version. */
  readonly files: readonly (readonly [base: string, next: string])[];
}

/** Both versions are in the page cache as far as it takes them, and on the disk. */
export async function nextVersion(
  { scratch, signal, log }: CaseContext,
  base: Checkpoint,
  { kind, fraction }: { readonly kind: Kind; readonly fraction: number },
): Promise<Versions> {
  if (base.path === null) throw new Error('the base is a directory');
  const directory = join(scratch, `next-${process.pid}`);
  const dispose = () => rm(directory, { recursive: true, force: true });
  try {
    await mkdir(directory);
    const shards = await shardsOf(base.path);
    const files = shards.map((path) => [path, join(directory, basename(path))] as const);
    const program = await compile('perturb', scratch);
    log(`a version with ${fraction * 100} % of the elements changed (${kind})`);
    const { stdout } = await promisify(execFile)(program, [kind, String(fraction), ...files.flat()], {
      signal,
    });
    await cp(base.path, directory, { recursive: true, force: false });
    const next = await openCheckpoint(directory, { signal });
    const pairs = runToEnd(pairSteps(base, next));
    return { base, next, changed: Number(stdout), pairs, files, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

export function placeOf({ name, range }: Tensor): FileRange {
  if (range.kind !== 'file') throw new Error(`${name} lies in no file`);
  return range;
}
