// What every scenario starts from: the addon, named by the environment, over the emulated libraries.
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

export const addon = createRequire(import.meta.url)(process.env.WEIGHTCAST_ADDON);
addon.useErrors((code, message, details) => Object.assign(new Error(message), { code, details }));

export const open = () => addon.open(process.env.WEIGHTCAST_TEST_CUDA, process.env.WEIGHTCAST_TEST_NCCL);

export const nextTurn = () => new Promise(setImmediate);

/** Resolves when `holds()` is true; after `limitMs` throws, and says `what()` is missing. */
export async function until(holds, what, limitMs = 10_000) {
  const end = performance.now() + limitMs;
  while (!(await holds())) {
    if (performance.now() > end)
      throw new Error(`not within ${limitMs} ms: ${typeof what === 'string' ? what : what()}`);
    await nextTurn();
  }
}

/** Names of the threads of this process. */
export function threadNames() {
  return readdirSync('/proc/self/task').flatMap((task) => {
    try {
      return [readFileSync(`/proc/self/task/${task}/comm`, 'utf8').trim()];
    } catch {
      return []; // it ended since it was listed
    }
  });
}

/** Names of those of the addon. */
export const addonThreads = () => threadNames().filter((name) => name.startsWith('wc-'));

export const noThreadsLeft = () =>
  until(
    () => addonThreads().length === 0,
    () => `no thread of the addon is left; there are ${addonThreads()}`,
  );

/** All ranks of a group in this environment, a thread each; rank = index. */
export async function group(runtime, size) {
  const ranks = await Promise.all(Array.from({ length: size }, () => runtime.communicator(0)));
  const uniqueId = await runtime.uniqueId();
  await Promise.all(
    ranks.map((communicator, rank) =>
      communicator.init({ uniqueId, worldSize: size, rank, timeoutMs: 30_000 }),
    ),
  );
  return ranks;
}

/** The addon still works in this environment. */
export async function expectUsable() {
  const [communicator] = await group(await open(), 1);
  const [sum] = await communicator.allReduce(Float32Array.of(3), 10_000);
  await communicator.destroy(5_000);
  if (sum !== 3) throw new Error(`the sum of one rank is ${sum}, not 3`);
}
