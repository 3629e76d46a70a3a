/** What `openssl speed` says of SHA-256 on this machine. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

/**
 * Bytes a second, of all processes together. One process is measured by its CPU time and several by the clock: that is openssl's own way.
 *
 * @throws Error without openssl
 */
export async function opensslSha256(options: {
  readonly processes: number;
  readonly seconds: number;
  readonly signal: AbortSignal;
}): Promise<number> {
  const { processes, seconds, signal } = options;
  const parallel = processes > 1 ? ['-multi', String(processes)] : [];
  const speed = [
    'speed',
    '-mr',
    '-seconds',
    String(seconds),
    '-bytes',
    '16384',
    ...parallel,
    '-evp',
    'sha256',
  ];
  const { stdout } = await run('openssl', speed, { signal });
  // '+F:25:sha256:1569537551.52'; with -multi the sum comes last.
  const found = [...stdout.matchAll(/^\+F:\d+:sha256:([\d.]+)$/gim)].at(-1);
  if (found === undefined) throw new Error(`openssl speed answered ${stdout}`);
  return Number(found[1]);
}
