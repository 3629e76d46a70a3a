// npm run soak: lives and ends of communicators over the emulated libraries; fails when this process grows.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { commandLine, wrongUsage } from '../../command-line.mjs';

const SAMPLES = 50;
const {
  values: { cycles: total, seed },
} = commandLine('soak', {
  about: 'Lives and ends of communicators over the emulated libraries; fails when this process grows.',
  options: {
    cycles: { number: 2000, text: `how many, from ${10 * SAMPLES} on` },
    seed: { number: 1, text: 'of what is random' },
  },
});
if (!Number.isSafeInteger(total) || total < 10 * SAMPLES || !Number.isSafeInteger(seed)) {
  wrongUsage(`--cycles takes a number from ${10 * SAMPLES} on, --seed a whole number`);
}

const build = fileURLToPath(new URL('../../../build/', import.meta.url));
process.env.WEIGHTCAST_ADDON ??= `${build}Release/weightcast.node`;
process.env.WEIGHTCAST_TEST_CUDA ??= `${build}emulator/libcuda.so.1`;
process.env.WEIGHTCAST_TEST_NCCL ??= `${build}emulator/libnccl.so.2`;
if (!existsSync(process.env.WEIGHTCAST_ADDON)) throw new Error('build the addon first: npm run build');

const { open } = await import('../scenario/addon.mjs');
const { random } = await import('../scenario/random.mjs');
const { cycles } = await import('./cycles.mjs');
const { sample, verdict } = await import('./samples.mjs');

const runtime = await open();
const next = random(seed);
const kinds = Object.entries(cycles);
const counts = Object.fromEntries(kinds.map(([name]) => [name, 0]));
const started = performance.now();
const elapsed = () => ((performance.now() - started) / 1000).toFixed(0);

async function run(cycle) {
  const [name, live] = kinds[Math.floor(next() * kinds.length)];
  try {
    await live(runtime, next);
  } catch (cause) {
    throw new Error(`cycle ${cycle} (${name}, seed ${seed})`, { cause });
  }
  counts[name] += 1;
}

// What a process makes once (its way to stdout, a first group) is not growth.
process.stdout.write(`${total} cycles, seed ${seed}, Node ${process.version}\n`);
for (const [, live] of kinds) await live(runtime, next);
const samples = [await sample(0)];
for (let cycle = 1; cycle <= total; cycle += 1) {
  await run(cycle);
  if (cycle % Math.floor(total / SAMPLES) !== 0) continue;
  samples.push(await sample(cycle));
  const { rss, fds, threads } = samples.at(-1);
  process.stdout.write(
    `${cycle} cycles, ${elapsed()} s: RSS ${(rss / 2 ** 20).toFixed(1)} MiB, ${fds} file descriptors, ${threads} threads\n`,
  );
}
const { flat, text } = verdict(samples);
process.stdout.write(
  `${Object.entries(counts)
    .map(([name, count]) => `${count} × ${name}`)
    .join(', ')}\n`,
);
process.stdout.write(
  `${flat ? 'FLAT' : 'GROWS'} after ${total} cycles, seed ${seed}, ${elapsed()} s: ${text}\n`,
);
process.exitCode = flat ? 0 : 1;
