/** Which files a checkpoint was, so that somebody else can tell later whether they are still there: by their stamps, not by their bytes. */
import { createHash } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { unlessStalled } from '../waits.js';
import { stampOf } from './unchanged.js';

/** The weights and their index: what others write beside them does not make another checkpoint. */
const WEIGHTS = /\.safetensors(\.index\.json)?$/;

/**
 * SHA-256, in hexadecimal, over name, device, inode, size and time of every file of weights at `path`, a directory or one file; null when there is none, or
 * it can't be read, or its file system hangs.
 */
export function checkpointIdentity(path: string): Promise<string | null> {
  return unlessStalled(identityOf(path), (why) => new Error(why)).catch(() => null);
}

async function identityOf(path: string): Promise<string | null> {
  const isDirectory = (await stat(path)).isDirectory();
  const names = isDirectory ? (await readdir(path)).filter((name) => WEIGHTS.test(name)).sort() : [''];
  if (names.length === 0) return null;
  const hash = createHash('sha256');
  for (const name of names) {
    const stamp = stampOf(await stat(join(path, name), { bigint: true }));
    hash.update(`${JSON.stringify(name || basename(path))} ${stamp}\n`);
  }
  return hash.digest('hex');
}
