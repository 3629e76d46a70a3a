/** Something that a process does to a directory, and that must be right wherever it is struck. */
import { randomBytes } from 'node:crypto';
import { cp, readdir, rm, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import type { Outcome, Task } from './child.js';

export interface Scenario {
  readonly name: string;
  /** What the directory is like before; each strike gets a copy. */
  readonly template: string;
  /** Whether it may go on without what a full or broken disk refuses; it must be right then. Default: it fails. */
  readonly mayGoOn?: boolean;
  task(directory: string): Task;
  /** What readers and the next process find afterwards. @returns what is wrong; empty when all is well */
  judge(directory: string, outcome: Outcome): Promise<string[]>;
}

/** A directory to be struck in. */
export async function withDirectory<T>(
  root: string,
  template: string,
  run: (directory: string) => Promise<T>,
): Promise<T> {
  const directory = join(root, `struck-${randomBytes(6).toString('hex')}`);
  await cp(template, directory, { recursive: true, preserveTimestamps: true });
  try {
    return await run(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** As if nobody had written to what is of publishers, removers and readers for long: what does not say who died goes by that. */
export async function age(directory: string): Promise<void> {
  const own = join(directory, '.weightcast');
  const names = await readdir(own, { recursive: true }).catch(() => []);
  for (const name of ['', ...names]) await utimes(join(own, name), 1, 1).catch(() => undefined);
}
