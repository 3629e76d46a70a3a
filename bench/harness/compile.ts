/** Compiles a small C program of bench/native into the scratch folder. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** The repository, seen from dist-bench/bench/harness. */
export const repository = fileURLToPath(new URL('../../../', import.meta.url));

/** Path of the program. @throws Error that shows the compiler's words */
export async function compile(name: string, scratch: string): Promise<string> {
  const program = join(scratch, name);
  const source = join(repository, 'bench/native', `${name}.c`);
  await promisify(execFile)('cc', ['-O2', '-Wall', '-o', program, source, '-ldl', '-lm', '-pthread']);
  return program;
}
