/** The programs that the child processes run: always compiled files, also when this module runs from its TypeScript source. */
import { type ChildProcess, fork } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { WeightcastError } from '../errors.js';

export type Program = 'engine-main' | 'worker-main';

function programPath(program: Program): string {
  const compiled = import.meta.url.endsWith('.js');
  const path = fileURLToPath(
    new URL(compiled ? `./${program}.js` : `../../dist/testing/${program}.js`, import.meta.url),
  );
  if (!existsSync(path)) {
    throw new WeightcastError('WC_REFERENCE_ENGINE', `${path} does not exist: the package is not built`, {
      remedy: 'Run npm run build:ts first.',
    });
  }
  return path;
}

/**
 * Starts a child that ends when its IPC channel closes. Its stderr is the caller's to read, or inherited; its environment is this process's and, over it,
 * `environment`.
 */
export function spawnProgram(
  program: Program,
  stderr: 'pipe' | 'inherit',
  environment: Readonly<Record<string, string>> = {},
): ChildProcess {
  return fork(programPath(program), [], {
    execArgv: [],
    env: { ...process.env, ...environment },
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', stderr, 'ipc'],
  });
}
