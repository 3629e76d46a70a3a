// What must stay flat: resident memory, file descriptors and threads of this process.
import { readdirSync, readFileSync } from 'node:fs';
import { threadNames, until } from '../scenario/addon.mjs';

const MIB = 1 << 20;
/** What the medians of the resident memory may differ: page cache of stacks and heaps of the allocator that this many threads touch. */
const RSS_LIMIT_BYTES = 16 * MIB;

const count = (folder) => readdirSync(folder).length;
const resident = () =>
  Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;

/** Threads of the addon and of the libraries below it, which bear their creator's name or one of their own. */
const working = () => threadNames().filter((name) => /^(wc-|nccl-)/.test(name)).length;

/** Collects garbage until the threads of what was closed or collected have ended, then measures. @throws when they don't. */
export async function sample(cycle) {
  const settled = () => {
    globalThis.gc();
    return working() === 0;
  };
  await until(settled, () => `the threads of closed communicators ended; there are ${threadNames()}`, 60_000);
  return { cycle, rss: resident(), fds: count('/proc/self/fd'), threads: count('/proc/self/task') };
}

const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];

/**
 * Descriptors and threads of no sample exceed those of the first. Resident memory: the median of the last fifth of the samples exceeds
 * that of the second fifth (the first warms up) by at most 16 MiB.
 */
export function verdict(samples) {
  const fifth = Math.floor(samples.length / 5);
  const [first] = samples;
  const before = median(samples.slice(fifth, 2 * fifth).map((taken) => taken.rss));
  const after = median(samples.slice(-fifth).map((taken) => taken.rss));
  const most = (key) => Math.max(...samples.map((taken) => taken[key]));
  const cycles = samples.at(-1 - Math.floor(fifth / 2)).cycle - samples[Math.floor(1.5 * fifth)].cycle;
  const flat =
    after - before <= RSS_LIMIT_BYTES && most('fds') <= first.fds && most('threads') <= first.threads;
  const mib = (bytes) => (bytes / MIB).toFixed(1);
  const text =
    `RSS ${mib(before)} → ${mib(after)} MiB (${Math.round((after - before) / cycles)} bytes a cycle, limit +${mib(RSS_LIMIT_BYTES)} MiB), ` +
    `file descriptors ${first.fds} → ${most('fds')} at most, threads ${first.threads} → ${most('threads')} at most`;
  return { flat, text };
}
