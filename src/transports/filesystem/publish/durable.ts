/** Small files and folders of a publication, on the disk before the next step where that is wanted. */
import { mkdir, open } from 'node:fs/promises';
import { constants } from 'node:os';
import { dirname } from 'node:path';
import { WeightcastError } from '../../../errors.js';

/** Systems on which a folder can't be synced say so in these ways; there it need not be. */
const NO_FOLDER_SYNC: ReadonlySet<unknown> = new Set(['EINVAL', 'ENOTSUP', 'ENOSYS', 'EISDIR']);

/**
 * Writes a file that must not be there yet.
 *
 * @throws the system's errors: EEXIST when it is there
 */
export async function writeNew(path: string, bytes: Uint8Array | string, sync: boolean): Promise<void> {
  await using file = await open(path, 'wx');
  await file.writeFile(bytes);
  if (sync) await file.sync();
}

/** The bytes of a file that somebody else wrote survive a power loss once this resolves. */
export async function syncFile(path: string): Promise<void> {
  await using file = await open(path, 'r');
  await file.sync();
}

/** What was created, renamed or removed in the folder survives a power loss once this resolves. */
export async function syncFolder(path: string): Promise<void> {
  try {
    await using folder = await open(path, 'r');
    await folder.sync();
  } catch (error) {
    if (!NO_FOLDER_SYNC.has((error as NodeJS.ErrnoException).code)) throw error;
  }
}

/** Makes a folder and what leads to it. */
export async function makeFolder(path: string, sync: boolean): Promise<void> {
  const first = await firstMade(path);
  if (first === undefined || !sync) return;
  for (let made = path; ; made = dirname(made)) {
    await syncFolder(dirname(made));
    if (made === first || made === dirname(made)) return;
  }
}

/** One by one: Node's own recursion says ENOENT for whatever was wrong, and never ends where a folder that is there says it (/proc). */
async function firstMade(path: string): Promise<string | undefined> {
  try {
    await mkdir(path);
    return path;
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return undefined;
    if (codeOf(error) !== 'ENOENT' || dirname(path) === path) throw error;
  }
  const first = await firstMade(dirname(path));
  await mkdir(path).catch((error: unknown) => {
    if (codeOf(error) !== 'EEXIST') throw error;
  });
  return first ?? path;
}

/** Runs work on a path; what the system says against it becomes WC_FILE_WRITE. */
export async function writing<T>(path: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw writeError(path, error);
  }
}

export function writeError(path: string, cause: unknown, remedy?: string): unknown {
  if (cause instanceof WeightcastError) return cause;
  const { errno, message } = cause as NodeJS.ErrnoException;
  const errnoName = errnoNameOf(cause);
  if (errnoName === null) return cause;
  return new WeightcastError(
    'WC_FILE_WRITE',
    `${path}: ${message.replace(`Unknown system error ${errno}`, errnoName)}`,
    {
      cause,
      details: { path, errnoName },
      ...(remedy === undefined ? {} : { remedy }),
    },
  );
}

/** Node has no name for EDQUOT: its code is "Unknown system error -122". Null for what the system did not say. */
export function errnoNameOf(error: unknown): string | null {
  const { code, errno } = error as NodeJS.ErrnoException;
  if (typeof code !== 'string') return null;
  const found = Object.entries(constants.errno).find(([, number]) => number === -(errno ?? 0));
  return found?.[0] ?? code;
}

export function codeOf(error: unknown): unknown {
  return (error as NodeJS.ErrnoException | null)?.code;
}
