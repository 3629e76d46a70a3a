/** The folder in which pushes find one another: $WEIGHTCAST_STATE_DIR, else $XDG_RUNTIME_DIR/weightcast, else one of this user in the temporary folder. */
import { lstat, mkdir, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import { WeightcastError } from '../../errors.js';
import { withinTime } from './filesystem.js';

type Environment = Readonly<Record<string, string | undefined>>;

/** Where the state is, and whether a person chose the place. */
export interface StatePlace {
  readonly path: string;
  readonly chosen: boolean;
}

/** @param option the setting of the session; it wins over the environment */
export function statePlace(option: string | undefined, env: Environment = process.env): StatePlace {
  const named = option ?? env.WEIGHTCAST_STATE_DIR ?? '';
  if (named !== '') return { path: resolve(named), chosen: true };
  const runtime = env.XDG_RUNTIME_DIR ?? '';
  // The specification of XDG_RUNTIME_DIR: a relative path is to be ignored.
  if (isAbsolute(runtime)) return { path: join(runtime, 'weightcast'), chosen: false };
  return { path: join(tmpdir(), `weightcast-${userId()}`), chosen: false };
}

/**
 * Makes the folder where it is missing. One that others could write to is refused: whoever can forge a claim can keep a fleet from being updated.
 * A place of our own choosing must also be this user's and no link, since anybody may put something there first.
 *
 * @throws WeightcastError WC_STATE_DIR
 */
export function openStateDirectory(place: StatePlace): Promise<string> {
  return withinTime(open(place), place.path);
}

async function open({ path, chosen }: StatePlace): Promise<string> {
  try {
    await mkdir(path, { recursive: chosen, mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
    const found = chosen ? await stat(path) : await lstat(path);
    if (!found.isDirectory()) throw new Error('it is not a directory');
    if (!chosen && found.uid !== userId()) throw new Error(`it belongs to user ${found.uid}`);
    const others = chosen ? 0o002 : 0o022;
    if ((found.mode & others) !== 0) {
      throw new Error(`others may write to it (mode ${(found.mode & 0o7777).toString(8)})`);
    }
    return path;
  } catch (cause) {
    throw new WeightcastError(
      'WC_STATE_DIR',
      `${path} can't hold the state of a push: ${cause instanceof Error ? cause.message : String(cause)}`,
      { phase: 'preflight', cause },
    );
  }
}

function userId(): number {
  return process.getuid?.() ?? 0;
}
