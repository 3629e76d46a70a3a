import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Holder } from '../../../src/holder.js';
import type { ClaimRequest } from '../../../src/update/claim/claim.js';
import { type PushRecord, parseRecord, type RecordHead } from '../../../src/update/claim/record.js';

const CLAIM = fileURLToPath(new URL('../../../dist/update/claim/claim.js', import.meta.url));

export const A = 'http://10.0.0.1:8000';
export const B = 'http://10.0.0.2:8000';
export const C = 'http://10.0.0.3:8000';

export const PUSH: RecordHead['push'] = {
  weights: '/checkpoints/step_1',
  version: '1',
  fallback: 'none',
  recover: null,
  verify: 'auto',
  headerNames: [],
};

export async function withFolder(body: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'weightcast-claim-'));
  try {
    await body(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
}

export function request(
  directory: string,
  engines: readonly string[],
  more: Partial<ClaimRequest> = {},
): ClaimRequest {
  return { directory, engines, role: 'push', push: PUSH, patienceMs: 0, ...more };
}

export async function recordsIn(directory: string): Promise<(PushRecord | null)[]> {
  const names = (await readdir(directory)).sort();
  return Promise.all(names.map(async (name) => parseRecord(await readFile(join(directory, name), 'utf8'))));
}

/** The text of a record that nobody here has written. */
export function recordText(holder: Holder, urls: readonly string[], events: readonly object[] = []): string {
  const head: RecordHead = {
    weightcast: 1,
    id: '000000000001-0',
    role: 'push',
    holder,
    since: Date.UTC(2026, 0, 1),
    engines: urls.map((url) => ({ key: new URL(url).host, url })),
    push: PUSH,
  };
  return [head, ...events].map((line) => `${JSON.stringify(line)}\n`).join('');
}

/** A process that runs `body` with `claimEngines` at hand and the given arguments in `args`; its output once it has ended. */
export function claimant(body: string, args: unknown) {
  const program = `
    import { claimEngines } from ${JSON.stringify(CLAIM)};
    const args = JSON.parse(process.argv[1]);
    const PUSH = ${JSON.stringify(PUSH)};
    const claim = (engines, more = {}) =>
      claimEngines({ directory: args.directory, engines, role: 'push', push: PUSH, patienceMs: 0, ...more });
    ${body}`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program, JSON.stringify(args)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  const ended = once(child, 'close').then(([code]) => ({ code: code as number | null, out }));
  return {
    pid: child.pid ?? 0,
    ended,
    /** Resolves when it has printed this. */
    said: async (text: string) => {
      while (!out.includes(text)) await once(child.stdout, 'data');
    },
    kill: async () => {
      child.kill('SIGKILL');
      await ended;
    },
  };
}
