/** Checkpoints that somebody writes to while they are pushed. */
import { cp, open, readdir, stat, truncate, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Fault } from './scenario.js';

/** A copy that may be damaged. */
export async function copyOf(checkpoint: string, target: string): Promise<string> {
  await cp(checkpoint, target, { recursive: true });
  return target;
}

/** Damages a copy. Twice is once. */
export async function damage(directory: string, { kind, chance }: Fault): Promise<void> {
  const shards = (await readdir(directory)).filter((name) => name.endsWith('.safetensors')).sort();
  const name = shards[Math.floor(chance * shards.length)];
  if (name === undefined) return;
  const path = join(directory, name);
  switch (kind) {
    case 'missing':
      return unlink(path);
    case 'truncated':
      return truncate(path, Math.floor((await stat(path)).size * (0.5 + chance / 2)));
    default:
      return overwrite(path);
  }
}

/** The second half becomes other bytes; size and name stay. */
async function overwrite(path: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    const { size } = await file.stat();
    const from = Math.floor(size / 2);
    const bytes = Buffer.alloc(size - from);
    await file.read(bytes, 0, bytes.byteLength, from);
    for (let at = 0; at < bytes.byteLength; at += 1) bytes[at] = (bytes[at] as number) ^ 0x01;
    await file.write(bytes, 0, bytes.byteLength, from);
  } finally {
    await file.close();
  }
}
