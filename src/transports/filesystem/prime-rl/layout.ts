/** The folders that a prime-rl trainer broadcasts through: `<run>/broadcasts/step_<version>` (contracts/prime-rl.md 3.5 and 5.1). */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** One version's folder. */
export interface BroadcastStep {
  readonly version: number;
  readonly path: string;
}

/** 15 digits are exact as a number. */
const STEP = /^step_(\d{1,15})$/;

export function stepPath(broadcasts: string, version: number): string {
  return join(broadcasts, `step_${version}`);
}

/** The versions in a broadcasts folder, newest first; none where the folder is not there yet. */
export async function listSteps(broadcasts: string): Promise<readonly BroadcastStep[]> {
  const names = await namesIn(broadcasts);
  return names
    .flatMap((name) => {
      const version = STEP.exec(name)?.[1];
      return version === undefined ? [] : [{ version: Number(version), path: join(broadcasts, name) }];
    })
    .sort((a, b) => b.version - a.version);
}

/**
 * The broadcasts folders of a run: its own, and those of its runs in the years when one trainer had several (0.2 to 0.8: `run_default`, `run_*`). The folder
 * itself, where it is one.
 */
export async function broadcastFolders(run: string): Promise<readonly string[]> {
  const names = await namesIn(run);
  if (names.some((name) => STEP.test(name))) return [run];
  const places = ['.', ...names.filter((name) => name.startsWith('run_')).sort()];
  const folders = places.map((place) => join(run, place, 'broadcasts'));
  const there = await Promise.all(folders.map(async (folder) => (await modifiedMs(folder)) !== null));
  return folders.filter((_, index) => there[index] === true);
}

/** True where the folder holds an adapter, not a model. */
export async function isAdapter(step: BroadcastStep): Promise<boolean> {
  return (await modifiedMs(join(step.path, 'adapter_config.json'))) !== null;
}

/** When a file was last written, milliseconds; null when it is not there, or its folder was just cleaned away. */
export async function modifiedMs(path: string): Promise<number | null> {
  return unlessGone(async () => (await stat(path)).mtimeMs, null);
}

async function namesIn(folder: string): Promise<readonly string[]> {
  return unlessGone(() => readdir(folder), []);
}

/** ESTALE is how NFS says that a folder was cleaned away. */
async function unlessGone<T>(look: () => Promise<T>, gone: T): Promise<T> {
  try {
    return await look();
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'ESTALE'].includes(String((error as NodeJS.ErrnoException).code))) return gone;
    throw error;
  }
}
