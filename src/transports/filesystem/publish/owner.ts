/** Who writes or removes something in a publication directory: a file beside it, by which others tell whether it is left over. */
import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { type Holder, holderSchema, lifeOf, thisProcess } from '../../../holder.js';
import { askedOfFileSystem, type TimeIn } from '../clock.js';
import { isVersion, OWN_FOLDER } from '../layout.js';
import { writing } from './durable.js';

/** Milliseconds after which what nobody has written to is left over, when its owner can't be seen from here. */
export const GRACE_MS = 3_600_000;
const MAX_OWNER_BYTES = 16_384;

const text = z.string().max(4096);
const ownerSchema = z.object({
  nonce: z.string().regex(/^[0-9a-f]{16}$/),
  version: z.number().refine(isVersion),
  created: text,
  holder: holderSchema,
});

export interface Owner {
  readonly nonce: string;
  readonly version: number;
  /** ISO 8601. */
  readonly created: string;
  readonly holder: Holder;
}

export async function newOwner(nonce: string, version: number): Promise<Owner> {
  return { nonce, version, created: new Date().toISOString(), holder: await thisProcess() };
}

export function encodeOwner(owner: Owner): string {
  return `${JSON.stringify(owner)}\n`;
}

/** Null where there is none, or one that can't be read: half written, or not ours. */
export async function readOwner(path: string): Promise<Owner | null> {
  try {
    await using file = await open(path, 'r');
    const buffer = Buffer.alloc(MAX_OWNER_BYTES);
    const { bytesRead } = await file.read(buffer, 0, buffer.length, 0);
    return ownerSchema.parse(JSON.parse(buffer.toString('utf8', 0, bytesRead)));
  } catch {
    return null;
  }
}

export interface Clock {
  readonly me: Holder;
  /** The file system's time, milliseconds. */
  readonly nowMs: number;
  readonly graceMs: number;
}

export async function clockOf(
  directory: string,
  graceMs: number,
  me: Holder,
  timeIn: TimeIn = askedOfFileSystem,
): Promise<Clock> {
  const own = join(directory, OWN_FOLDER);
  return { me, graceMs, nowMs: await writing(own, timeIn(own)) };
}

/**
 * True when nobody goes on with it: its owner has died, or, where that can't be seen, none of these paths was written to for the grace period.
 *
 * @param paths files and folders; of a folder, what is in it counts too
 */
export async function isLeftOver(
  owner: Owner | null,
  paths: readonly string[],
  clock: Clock,
): Promise<boolean> {
  const life = owner === null ? 'unknown' : await lifeOf(owner.holder, clock.me);
  if (life !== 'unknown') return life === 'dead';
  const times = await Promise.all(paths.map(newestMs));
  return clock.nowMs - Math.max(...times) > clock.graceMs;
}

async function newestMs(path: string): Promise<number> {
  const names = await readdir(path).catch(() => []);
  const times = await Promise.all([path, ...names.map((name) => join(path, name))].map(mtimeMs));
  return Math.max(...times);
}

/** When it was written to, by the file system's clock; 0 when it is gone. */
export async function mtimeMs(path: string): Promise<number> {
  return stat(path).then(
    (status) => status.mtimeMs,
    () => 0,
  );
}
