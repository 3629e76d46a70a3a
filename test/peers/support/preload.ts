import { readdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from './process.js';
import { type PythonEnvironment, peersCache } from './venv.js';

/**
 * LD_PRELOAD for vLLM 0.18 on CPU, whose worker aborts unless a libtcmalloc and a libiomp5 are named there. An empty library will
 * do for the first; the environment carries the second.
 */
export async function preloadOf(python: PythonEnvironment): Promise<string> {
  const empty = join(peersCache, 'libtcmalloc_minimal.so.4');
  const draft = `${empty}.draft-${process.pid}`;
  const compiled = await run('cc', ['-shared', '-x', 'c', '/dev/null', '-o', draft]);
  if (compiled.code !== 0) throw new Error(`cc: ${compiled.stderr}`);
  await rename(draft, empty);
  const libraries = await readdir(join(python.directory, 'lib'));
  if (!libraries.includes('libiomp5.so')) throw new Error(`no libiomp5.so in ${python.directory}/lib`);
  return `${empty}:${join(python.directory, 'lib/libiomp5.so')}`;
}
