/** Runs bench/gpu/native/bare.c: what the hardware and NCCL do without weightcast. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { ncclEnvironment, type Sharing } from './rank/process.js';
import type { OpenAnswer } from './rank/protocol.js';

export interface Bare {
  readonly program: string;
  /** The two libraries, as the addon found them. */
  readonly libraries: readonly [string, string];
}

const SOURCE = fileURLToPath(new URL('../../../bench/gpu/native/bare.c', import.meta.url));

/** Compiles the program into `folder`. */
export async function buildBare(facts: OpenAnswer, folder: string): Promise<Bare> {
  const program = join(folder, 'bare');
  const isCurrent = await Promise.all([stat(program), stat(SOURCE)]).then(
    ([built, source]) => built.mtimeMs > source.mtimeMs,
    () => false,
  );
  if (!isCurrent)
    execFileSync('cc', ['-O2', '-o', program, SOURCE, '-ldl', '-lpthread'], { stdio: 'inherit' });
  return { program, libraries: [facts.cudaLibrary, facts.ncclLibrary] };
}

function start(bare: Bare, args: readonly (string | number)[], environment: Record<string, string> = {}) {
  const child = spawn(bare.program, [...bare.libraries, ...args.map(String)], {
    env: { ...process.env, ...environment },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const line = async (): Promise<string> => {
    const next = await lines.next();
    if (next.done) throw new Error(`bare ${args.join(' ')} ended without an answer`);
    return next.value;
  };
  return { child, line };
}

const rateOf = (line: string): number => (JSON.parse(line) as { bytesPerSecond: number }).bytesPerSecond;

/** Bytes a second of `copy`, `read` or `gather`. */
export async function bareRate(
  bare: Bare,
  mode: 'copy' | 'read' | 'gather',
  ...args: readonly [string | number, number]
): Promise<number> {
  const { child, line } = start(bare, [mode, ...args]);
  const rate = rateOf(await line());
  if (child.exitCode === null) await once(child, 'exit');
  return rate;
}

/** Bytes a second of bare ncclBroadcast in place, as rank 0 saw it. */
export async function bareBroadcast(
  bare: Bare,
  options: {
    readonly ranks: number;
    readonly byteLength: number;
    readonly repeats: number;
    readonly sharing: Sharing;
  },
): Promise<number> {
  const { ranks, byteLength, repeats, sharing } = options;
  const all = Array.from({ length: ranks }, (_, rank) =>
    start(bare, ['broadcast', rank, ranks, byteLength, repeats], ncclEnvironment(rank, sharing)),
  );
  try {
    const [root, ...others] = all;
    if (root === undefined) throw new RangeError('no ranks');
    const uniqueId = await root.line();
    for (const { child } of others) child.stdin.end(uniqueId);
    const [rate] = await Promise.all(all.map(async ({ line }) => rateOf(await line())));
    await Promise.all(all.map(({ child }) => (child.exitCode === null ? once(child, 'exit') : null)));
    return rate ?? 0;
  } finally {
    for (const { child } of all) child.kill('SIGKILL');
  }
}
