/**
 * Who built the communicator that an engine has. An engine keeps one, the latest: a session that broadcast to an older one would wait for workers that
 * wait for somebody else, and neither would ever end.
 */
import { createHash, randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { WeightcastError } from '../../errors.js';
import { withinTime } from './filesystem.js';
import { engineKey } from './identity.js';
import { openStateDirectory, type StatePlace } from './state-directory.js';

export interface GroupMarks {
  /** True while no other session has built a group with one of these engines since {@link GroupMarks.set}. @throws WeightcastError WC_STATE_DIR */
  stand(urls: readonly string[]): Promise<boolean>;
  /** Before these engines are told to join. @throws WeightcastError WC_STATE_DIR */
  set(urls: readonly string[]): Promise<void>;
}

/** The marks of one session; they are read and set under its claim. Where no state is kept nothing is known of others. */
export function groupMarks(place: StatePlace | null): GroupMarks {
  return place === null ? { stand: async () => true, set: async () => {} } : marksIn(place, 'groups');
}

/** The same for who pushed weights to an engine last. Where no state is kept it is never known to be this session. */
export function weightMarks(place: StatePlace | null): GroupMarks {
  return place === null ? { stand: async () => false, set: async () => {} } : marksIn(place, 'weights');
}

function marksIn(place: StatePlace, name: string): GroupMarks {
  const mine = randomUUID();
  const folder = join(place.path, name);
  const fileOf = (url: string) => join(folder, createHash('sha256').update(engineKey(url)).digest('hex'));
  return {
    stand: async (urls) =>
      (await withinTime(Promise.all(urls.map((url) => readMark(fileOf(url)))), folder)).every(
        (id) => id === mine,
      ),
    set: async (urls) => {
      try {
        await openStateDirectory(place);
        const all = async () => {
          await mkdir(folder, { recursive: true, mode: 0o700 });
          await Promise.all(urls.map((url) => setMark(fileOf(url), mine)));
        };
        await withinTime(all(), folder);
      } catch (cause) {
        if (cause instanceof WeightcastError) throw cause;
        const why = cause instanceof Error ? cause.message : String(cause);
        throw new WeightcastError('WC_STATE_DIR', `${folder} can't be written: ${why}`, { cause });
      }
    },
  };
}

const MARK_BYTES = 36;

async function setMark(path: string, id: string): Promise<void> {
  const unfinished = `${path}.${id}`;
  await writeFile(unfinished, id, { mode: 0o600 });
  await rename(unfinished, path);
}

async function readMark(path: string): Promise<string | null> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    () => null,
  );
  if (file === null) return null;
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MARK_BYTES), 0, MARK_BYTES, 0);
    return buffer.toString('latin1', 0, bytesRead);
  } catch {
    return null;
  } finally {
    await file.close();
  }
}
