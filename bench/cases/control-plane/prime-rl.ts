/** prime-rl's client logic in a Python process: bench/peers/prime_rl_admin.py. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { type PythonEnvironment, tryPython } from '../../../test/peers/support/venv.js';
import { repository } from '../../harness/compile.js';
import type { PauseTimes } from '../pause/bare.js';

/** As prime-rl's uv.lock pins them at 559b4477. */
export const primeRlClient = () =>
  tryPython({
    name: 'prime-rl-client',
    install: [
      'httpx==0.28.1',
      'httpcore==1.0.9',
      'h11==0.16.0',
      'anyio==4.13.0',
      'tenacity==9.1.4',
      'uvloop==0.22.1',
    ],
    override: [],
  });

export interface PrimeRl extends AsyncDisposable {
  run(): Promise<PauseTimes>;
}

export async function startPrimeRl(
  { python }: PythonEnvironment,
  engines: { readonly urls: readonly string[]; readonly directory: string },
  version: (of: string, version: string) => void,
): Promise<PrimeRl> {
  const script = join(repository, 'bench/peers/prime_rl_admin.py');
  const child = spawn(python, [script, engines.directory], { stdio: ['pipe', 'pipe', 'inherit'] });
  const exit = once(child, 'exit');
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const next = async (): Promise<unknown> => {
    const { value, done } = await lines.next();
    if (done) throw new Error("prime-rl's client ended");
    return JSON.parse(value);
  };
  for (const [name, found] of Object.entries((await next()) as Record<string, string>)) version(name, found);
  child.stdin.write(`${JSON.stringify(engines.urls)}\n`);
  return {
    run: async () => {
      child.stdin.write('\n');
      return (await next()) as PauseTimes;
    },
    [Symbol.asyncDispose]: async () => {
      child.stdin.end();
      await exit;
    },
  };
}
