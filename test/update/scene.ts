/** A push in a process of its own, through proxies that keep it at a chosen point; it is killed there. */
import { mkdtemp, readdir, readFile, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import type { SimulateOptions } from '../../src/testing/index.js';
import { type PushRecord, parseRecord } from '../../src/update/claim/record.js';
import type { UpdateReport } from '../../src/update/types.js';
import { MAIN, processesWith, Spawned, weightcast } from '../cli/spawned.js';
import { type ScriptedProxy, scriptedProxy } from './proxy.js';
import { answer, type Bench, digestsOf, digestsOfLoaded, isPaused, withBench } from './support.js';

export const LONG = 120_000;
/** Everything that a process left is done well within this. */
const PATIENCE_MS = 60_000;

export interface Scene extends Bench {
  readonly proxies: readonly ScriptedProxy[];
  /** Folder of the claims and journals. */
  readonly state: string;
  /** The push of `b` through the proxies, in a process of its own. */
  push(...more: string[]): Spawned;
  /** The same, with faults of the emulator at its own rank. */
  pushWith(faults: string): Spawned;
  records(): Promise<(PushRecord | null)[]>;
}

export async function withScene(
  body: (scene: Scene) => Promise<void>,
  engines: SimulateOptions = {},
): Promise<void> {
  await withBench({ engines: 2, workers: 1, ...engines }, async (bench) => {
    const state = await mkdtemp(join(tmpdir(), 'weightcast-dead-'));
    const proxies = await Promise.all(bench.urls.map(scriptedProxy));
    const records = async () => {
      const names = (await readdir(state)).filter((name) => name.endsWith('.push'));
      const texts = names.map((name) => readFile(join(state, name), 'utf8').catch(() => ''));
      return (await Promise.all(texts)).map(parseRecord);
    };
    const push = (more: readonly string[], faults: Record<string, string>) =>
      new Spawned(['--no-warnings', MAIN, 'push', bench.b, ...ends(proxies), ...OPTIONS, ...more], {
        ...env(state),
        ...faults,
      });
    try {
      await body({
        ...{ ...bench, proxies, state, records },
        push: (...more) => push(more, {}),
        pushWith: (faults) => push([], { WEIGHTCAST_EMULATOR_FAULTS: faults }),
      });
    } finally {
      await until(async () => (await processesWith(`WEIGHTCAST_STATE_DIR=${state}`)).length === 0);
      await Promise.all(proxies.map((proxy) => proxy[Symbol.asyncDispose]()));
      await rm(state, { recursive: true });
    }
  });
}

export const OPTIONS = ['--emulate', '--packed-buffer-bytes', '50000', '--weight-version', 'new'];
export const env = (state: string) => ({ WEIGHTCAST_STATE_DIR: state });
export const ends = (proxies: readonly ScriptedProxy[]) => proxies.flatMap(({ url }) => ['-e', url]);

export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error('it did not come about in time');
    await sleep(20);
  }
}

/** Kills the push when the second engine has been asked this and does not answer. */
export async function killIn(
  path: string,
  { proxies, urls, records }: Scene,
  pushing: Spawned,
): Promise<void> {
  const [one, two] = proxies as readonly [ScriptedProxy, ScriptedProxy];
  await until(() => two.posts.includes(path) && one.posts.includes(path));
  if (path === '/pause') await until(() => isPaused(urls[0] as string));
  if (path === '/finish_weight_update') {
    await until(async () => (await records())[0]?.engines[0]?.state === 'received');
  }
  pushing.signal('SIGKILL');
  await pushing.ended;
}

export const silentAt = ({ proxies }: Scene, path: string) => proxies[1]?.on(path, { kind: 'silence' }, 1);

export async function holds({ engines }: Scene, directory: string): Promise<boolean[]> {
  const all = await Promise.all(engines.map(digestsOf));
  const wanted = JSON.stringify(await digestsOfLoaded(engines[0] as Bench['engines'][number], directory));
  return all.map((held) => JSON.stringify(held) === wanted);
}

export const paused = ({ urls }: Scene) => Promise.all(urls.map(isPaused));
export const alive = async ({ urls }: Scene) => {
  for (const url of urls) expect(await answer(url)).toBeInstanceOf(Array);
};

/** A push, in a process of its own, to its end. */
export async function pushed(
  { state }: Scene,
  args: readonly string[],
): Promise<{ readonly code: number | null; readonly report: UpdateReport }> {
  const { code, out, err } = await weightcast([...args, '--json'], env(state));
  if (out === '') throw new Error(err);
  return { code, report: JSON.parse(out) as UpdateReport };
}

/** Ranks that have called on the emulated bootstrap root of this process and wait for the others. */
export async function ranksWaitingFor(pid: number): Promise<number> {
  const fds = await readdir(`/proc/${pid}/fd`);
  const targets = await Promise.all(fds.map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')));
  const sockets = (await readFile('/proc/net/unix', 'latin1'))
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(
      ([, , , , , , inode, path]) => targets.includes(`socket:[${inode}]`) && path?.includes('emulated-nccl'),
    );
  const connected = '03';
  return sockets.filter(([, , , , , state]) => state === connected).length;
}
