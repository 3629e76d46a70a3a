import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { environment } from '../../native/support.js';

/** How a spawned scenario ended. */
export interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** From 'now', which a scenario says when it does what it tests: starting Node is not part of it. */
  readonly elapsedMs: number;
  readonly endLimitMs: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ScenarioOptions {
  readonly node?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Killed with SIGKILL after this: it hangs. */
  readonly limitMs?: number;
  /** Longest time from 'now' to the end. */
  readonly endLimitMs?: number;
  /** Called once, when it says 'now'. */
  readonly onNow?: (kill: (signal: NodeJS.Signals) => void) => void;
}

/** Runs a script of scenario/ in a process of its own, to its end. */
export async function runScenario(
  script: string,
  args: readonly string[],
  options: ScenarioOptions = {},
): Promise<Ending> {
  const { node = process.execPath, env = {}, limitMs = 30_000, endLimitMs = END_LIMIT_MS, onNow } = options;
  const path = fileURLToPath(new URL(`../scenario/${script}`, import.meta.url));
  const child = spawn(node, ['--expose-gc', path, ...args], {
    env: { ...environment(), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: limitMs,
    killSignal: 'SIGKILL',
  });
  let stdout = '';
  let stderr = '';
  let now = performance.now();
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    if (stdout === '') {
      now = performance.now();
      onNow?.((signal) => child.kill(signal));
    }
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  return { code, signal, elapsedMs: performance.now() - now, endLimitMs, stdout, stderr };
}

/** Longest time from 'now' to the end of the process; the longest wait of the addon at its end is 2.5 s. */
const END_LIMIT_MS = 8_000;

/** What a process prints when it does not end but crashes, or when a sanitizer has something to say. */
const CRASH = /terminate called|core dumped|Aborted|Segmentation|FATAL ERROR|corrupt|double free|Sanitizer/i;

/** The process ended as it should, in time, and printed nothing that it should not. */
export function expectEnding(
  ending: Ending,
  expected: { readonly code: number | null; readonly signal: NodeJS.Signals | null; readonly says?: RegExp },
): void {
  const { code, signal, stderr, elapsedMs, endLimitMs } = ending;
  expect({ code, signal, stderr }).toEqual({
    code: expected.code,
    signal: expected.signal,
    stderr: expect.stringMatching(expected.says ?? /^$/),
  });
  expect(stderr).not.toMatch(CRASH);
  expect(elapsedMs).toBeLessThan(endLimitMs);
}
