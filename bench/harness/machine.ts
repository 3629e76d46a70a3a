/** The machine and the versions that a result belongs to. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os';

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly kernel: string;
}

export function machine(): Machine {
  return {
    cpu: (cpus()[0]?.model ?? 'unknown').trim(),
    cores: availableParallelism(),
    memoryGiB: Math.round((totalmem() / 2 ** 30) * 10) / 10,
    kernel: release(),
  };
}

/** First line of what a command prints, or null when there is no such command. */
function firstLine(command: string, args: readonly string[]): string | null {
  try {
    return (
      execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).split('\n')[0] ??
      null
    );
  } catch {
    return null;
  }
}

export function versions(): Record<string, string> {
  const commit = firstLine('git', ['rev-parse', '--short=12', 'HEAD']);
  const changed = firstLine('git', ['status', '--porcelain', '--untracked-files=no']);
  return {
    node: process.versions.node,
    weightcast: commit === null ? 'unknown' : `${commit}${changed ? ' with uncommitted changes' : ''}`,
    openssl: firstLine('openssl', ['version']) ?? 'not installed',
    compiler: firstLine('c++', ['--version']) ?? 'not installed',
  };
}

/** Mean number of runnable processes over the last minute. */
export const loadAverage = (): number => Math.round((loadavg()[0] ?? 0) * 100) / 100;

/** Bytes that can be had without swapping: free memory and what the page cache can give back. */
export function availableMemory(): number {
  const found = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'));
  return Number(found?.[1] ?? 0) * 1024;
}
