/** Where a delta lies between its making and its sending: a folder of this process, removed on every path. */
import { mkdtemp, readdir, rm, stat, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { asWeightcastError, WeightcastError } from '../../errors.js';

const PREFIX = 'weightcast-delta-';

/** A process that is not seen here may run in another container that shares the folder: its spool is left alone for so long. */
const LEFT_ALONE_MS = 6 * 3_600_000;

export class Spool {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** A fresh folder in the temporary one; those of killed processes are removed first. @throws WeightcastError WC_FILE_WRITE */
  static async create(parent = tmpdir()): Promise<Spool> {
    await sweep(parent);
    try {
      return new Spool(await mkdtemp(join(parent, `${PREFIX}${process.pid}-`)));
    } catch (error) {
      throw asWeightcastError(error, 'WC_FILE_WRITE', { phase: 'preflight' });
    }
  }

  file(name: string): string {
    return join(this.path, name);
  }

  /** @throws WeightcastError WC_FILE_WRITE */
  async requireRoom(bytes: number): Promise<void> {
    const { bavail, bsize } = await statfs(this.path);
    const free = bavail * bsize;
    if (free >= bytes) return;
    throw new WeightcastError(
      'WC_FILE_WRITE',
      `the next part of the delta may take ${bytes} bytes in ${this.path}, and ${free} are free`,
      { phase: 'preflight', remedy: 'Free some space there, or set TMPDIR to a folder with more.' },
    );
  }

  /** Removes it. Safe to call twice; what was opened can still be read. */
  async close(): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Removes what processes left that were killed. */
async function sweep(parent: string): Promise<void> {
  const names = await readdir(parent).catch(() => []);
  for (const name of names) {
    const [, pid] = /^weightcast-delta-(\d{1,10})-/.exec(name) ?? [];
    if (pid === undefined || isRunning(Number(pid))) continue;
    const path = join(parent, name);
    const written = await stat(path).catch(() => null);
    if (written === null || Date.now() - written.mtimeMs < LEFT_ALONE_MS) continue;
    // Another user's: not ours to remove.
    await rm(path, { recursive: true, force: true }).catch(() => undefined);
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}
