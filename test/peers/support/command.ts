import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { UpdateReport } from '../../../src/update/types.js';
import { type RunOptions, run } from './process.js';

const repository = fileURLToPath(new URL('../../..', import.meta.url));
/** The built command line. */
export const mainScript = join(repository, 'dist/cli/main.js');

export interface Pushed {
  /** 0 updated and verified, 1 failed and serving the old version, 2 usage, 3 some engine quarantined. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** The one document on stdout. */
  readonly report: UpdateReport;
  readonly stderr: string;
}

/** The built command line, as a user runs it. */
export function weightcast(args: readonly string[], options: RunOptions = {}) {
  return run(process.execPath, [mainScript, ...args], { timeoutMs: 240_000, ...options });
}

/** `weightcast push <weights> … --json` to vLLM servers, or to engines as `--engine` takes them; throws what it printed when stdout is not one JSON document. */
export async function push(
  weights: string,
  engines: readonly (string | { readonly url: string })[],
  args: readonly string[],
  options: RunOptions = {},
): Promise<Pushed> {
  const targets = engines.flatMap((engine) => [
    '--engine',
    typeof engine === 'string' ? engine : `vllm=${engine.url}`,
  ]);
  const outcome = await weightcast(['push', weights, ...targets, ...args, '--json'], options);
  const { code, signal, stdout, stderr } = outcome;
  if (signal !== null) return { code, signal, report: null as never, stderr };
  try {
    return { code, signal, report: JSON.parse(stdout) as UpdateReport, stderr };
  } catch {
    throw new Error(`push ended with ${code} and no JSON document:\n${stdout}\n${stderr}`);
  }
}
