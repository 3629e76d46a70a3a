import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCE = fileURLToPath(new URL('fault.c', import.meta.url));

/** Compiles the library to preload; its path. @throws Error with what the compiler said */
export function buildPreload(folder: string): string {
  const library = join(folder, 'fault.so');
  const args = ['-O2', '-Wall', '-Wextra', '-Werror', '-shared', '-fPIC', SOURCE, '-o', library, '-ldl'];
  const { status, stderr, error } = spawnSync('cc', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`cc: ${error?.message ?? stderr}`);
  return library;
}
