/** The records of a state directory: read with bounds, since anybody of this user may have written what is there. */
import { constants } from 'node:fs';
import { type FileHandle, open, opendir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { WeightcastError } from '../../errors.js';
import { type Holder, type Life, lifeOf, thisProcess } from '../../holder.js';
import { type PushRecord, parseRecord } from './record.js';
import type { StatePlace } from './state-directory.js';

export const RECORD_NAME = /^[0-9a-f-]{1,64}\.push$/;
const UNFINISHED_NAME = /^[0-9a-f-]{1,64}\.tmp$/;
const MAX_FILES = 16_384;
const MAX_BYTES = 8 << 20;
const AT_ONCE = 32;
/** A record is written within moments; one that has stayed unfinished so long has no writer any more. */
const UNFINISHED_MS = 600_000;
/** A holder whose process can't be seen from here lives as long as it touches its record, which it does every {@link HEARTBEAT_MS}. */
export const HEARTBEAT_MS = 5_000;
export const SILENT_MS = 60_000;

export interface FoundRecord extends PushRecord {
  readonly file: string;
  readonly life: Life;
  /** Milliseconds since its holder last touched it. */
  readonly silentMs: number;
  /** It keeps others from its engines: its holder lives, as far as can be known, and has not let go. */
  readonly live: boolean;
}

/**
 * Every record of the directory. Files that are none are passed over.
 *
 * @param now Unix milliseconds by the clock of the directory's filesystem
 * @throws WeightcastError WC_STATE_DIR
 */
export async function readRecords(
  directory: string,
  view: { readonly me: Holder; readonly now: number },
): Promise<FoundRecord[]> {
  const names = await namesIn(directory, view.now);
  const found: FoundRecord[] = [];
  for (let from = 0; from < names.length; from += AT_ONCE) {
    const some = names.slice(from, from + AT_ONCE);
    const read = await Promise.all(some.map((name) => readRecord(join(directory, name), view)));
    found.push(...read.filter((record) => record !== null));
  }
  return found.sort((one, other) => one.head.since - other.head.since);
}

/** The records of a place that may not be there, for a look from outside; none where they can't be read. */
export async function lookAtRecords({ path }: StatePlace): Promise<FoundRecord[]> {
  return readRecords(path, { me: await thisProcess(), now: Date.now() }).catch(() => []);
}

async function namesIn(directory: string, now: number): Promise<string[]> {
  const names: string[] = [];
  let seen = 0;
  try {
    for await (const { name } of await opendir(directory)) {
      seen += 1;
      if (seen > MAX_FILES) throw new Error(`it has more than ${MAX_FILES} files`);
      if (RECORD_NAME.test(name)) names.push(name);
      else if (UNFINISHED_NAME.test(name)) await removeForgotten(join(directory, name), now);
    }
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new WeightcastError('WC_STATE_DIR', `${directory} can't be read: ${why}`, { cause });
  }
  return names;
}

async function removeForgotten(path: string, now: number): Promise<void> {
  const found = await stat(path).catch(() => null);
  if (found !== null && now - found.mtimeMs > UNFINISHED_MS) await rm(path, { force: true }).catch(() => {});
}

async function readRecord(
  file: string,
  { me, now }: { readonly me: Holder; readonly now: number },
): Promise<FoundRecord | null> {
  const read = await readRegularFile(file);
  const record = read === null ? null : parseRecord(read.text);
  if (read === null || record === null) return null;
  const life = await lifeOf(record.head.holder, me);
  const silentMs = Math.max(0, now - read.mtimeMs);
  const beating = silentMs <= SILENT_MS;
  const lives = life === 'alive' || (life === 'unknown' && beating);
  return { ...record, file, life, silentMs, live: lives && !record.left && !record.superseded };
}

/**
 * Text of a regular file, without following a link and without waiting for the other end of a pipe; null where no record can be.
 *
 * @throws WeightcastError WC_STATE_DIR when it can't be read: it may be the claim of somebody who lives
 */
async function readRegularFile(
  path: string,
): Promise<{ readonly text: string; readonly mtimeMs: number } | null> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  let file: FileHandle | null = null;
  try {
    file = await open(path, flags);
    const found = await file.stat();
    if (!found.isFile()) return null;
    const { size, mtimeMs } = found;
    if (size > MAX_BYTES) throw new Error(`it has ${size} bytes, and a record at most ${MAX_BYTES}`);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(size), 0, size, 0);
    return { text: buffer.subarray(0, bytesRead).toString('utf8'), mtimeMs };
  } catch (cause) {
    if (NO_RECORD.some((code) => hasErrorCode(cause, code))) return null;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new WeightcastError(
      'WC_STATE_DIR',
      `${path} may be the claim of a push, and can't be read: ${why}`,
      {
        cause,
        remedy: 'Let the pushes of one fleet run as one user; remove the file when nobody pushes.',
      },
    );
  } finally {
    await file?.close();
  }
}

/** Gone since it was listed, or a link, or a socket: no push writes such. */
const NO_RECORD = ['ENOENT', 'ELOOP', 'ENXIO'];

function hasErrorCode(error: unknown, code: string): boolean {
  return error instanceof Error && (error as NodeJS.ErrnoException).code === code;
}
