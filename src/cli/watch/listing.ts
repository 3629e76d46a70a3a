import type { Stats } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { WeightcastError } from '../../errors.js';
import type { Listing, Replaced, Step } from './planner.js';

const MARKER = 'STABLE';

/**
 * One look at a trainer's output folder. A folder that isn't there (yet, or between two renames) has nothing.
 * @throws WeightcastError WC_CONFIG_INVALID when the path is not a folder; the file system's own errors, which may pass
 */
export async function listVersions(directory: string, lastStep: number | null): Promise<Listing> {
  const names = await entries(directory);
  const steps = names
    .map((name) => ({ name, step: /^step_(\d{1,15})$/.exec(name)?.[1] }))
    .flatMap(({ name, step }) => (step === undefined ? [] : [{ name, step: Number(step) }]))
    .sort((a, b) => b.step - a.step);
  const newest = await newestMarked(directory, steps);
  return {
    newest,
    unmarked: steps
      .filter(({ step }) => step > (newest?.step ?? -1))
      .map(({ name }) => join(directory, name)),
    lastStepExists: steps.some(({ step }) => step === lastStep),
    checkpoint: await checkpoint(directory, names),
  };
}

/** Looks at the folder; an error of the file system (a stale NFS handle) is told once and counts as nothing new. */
export function patientLook(say: (text: string) => void) {
  let told: string | null = null;
  return async (directory: string, lastStep: number | null): Promise<Listing> => {
    try {
      const listing = await listVersions(directory, lastStep);
      told = null;
      return listing;
    } catch (error) {
      if (error instanceof WeightcastError || !(error instanceof Error)) throw error;
      if (error.message !== told) say(`${error.message}; looking again`);
      told = error.message;
      return { newest: null, unmarked: [], lastStepExists: true, checkpoint: null };
    }
  };
}

async function newestMarked(
  directory: string,
  steps: readonly { readonly name: string; readonly step: number }[],
): Promise<Step | null> {
  for (const { name, step } of steps) {
    const path = join(directory, name);
    const marker = await statOrNull(join(path, MARKER));
    if (marker !== null) return { kind: 'step', step, path, markedMs: marker.mtimeMs };
  }
  return null;
}

async function checkpoint(directory: string, names: readonly string[]): Promise<Replaced | null> {
  if (!names.includes('model.safetensors') && !names.includes('model.safetensors.index.json')) return null;
  const files = names.filter((name) => /\.safetensors(\.index\.json)?$/.test(name)).sort();
  const stats = await Promise.all([directory, ...files.map((name) => join(directory, name))].map(statOrNull));
  // A file that vanished between the listing and now: the folder is being replaced; look again later.
  if (stats.some((found) => found === null)) return null;
  const found = stats as readonly Stats[];
  return {
    kind: 'replaced',
    path: directory,
    // The folder's own times change when anything is created in it: only its device and inode count.
    identity: found
      .map((s, index) =>
        index === 0 ? `${s.dev}:${s.ino}` : `${files[index - 1]}:${s.dev}:${s.ino}:${s.size}:${s.mtimeMs}`,
      )
      .join('|'),
    writtenMs: Math.max(...found.slice(1).map((s) => s.mtimeMs)),
  };
}

async function entries(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    if (code === 'ENOENT') return [];
    if (code !== 'ENOTDIR') throw cause;
    throw new WeightcastError('WC_CONFIG_INVALID', `${directory} is not a folder`, {
      cause,
      remedy: 'Pass the folder into which the trainer writes its checkpoints.',
    });
  }
}

async function statOrNull(path: string): Promise<Stats | null> {
  try {
    return await stat(path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ENOTDIR') return null;
    throw error;
  }
}
