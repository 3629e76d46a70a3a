/** What an update adds to the pause of its engines: stub engines that answer at once, beside the same requests by undici alone. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { connectFleet } from '#weightcast/index.js';
import { writeTinyModel } from '#weightcast/testing/tiny-model.js';
import type { BenchCase, CaseContext, Figure } from '../case.js';
import { interleave, median, quantile, spread } from '../harness/statistics.js';
import { bareFanOut } from './pause/bare.js';
import { startStubs } from './pause/stubs.js';

const VERSION = '1';
/** JavaScript is compiled as it runs: a session's first updates are not the ones that count here. */
const WARM_UP = 5;

interface Fleet {
  readonly engines: number;
  readonly updates: number;
  readonly goals: { readonly p50?: number; readonly p99: number };
}

const FLEETS: readonly Fleet[] = [
  { engines: 64, updates: 200, goals: { p50: 3, p99: 15 } },
  { engines: 512, updates: 100, goals: { p99: 100 } },
];

export const pause: BenchCase = {
  name: 'pause',
  about:
    'Updates by file of stub engines that answer at once (another process): from the first pause request to the last answer to a resume, beside the same requests by undici alone.',
  timeoutMs: 900_000,
  async run(context) {
    await mkdir(context.scratch, { recursive: true });
    const directory = await mkdtemp(join(context.scratch, 'pause-'));
    try {
      await writeTinyModel(join(directory, 'model'));
      const figures: Figure[] = [];
      for (const fleet of FLEETS) figures.push(...(await measure(fleet, directory, context)));
      return figures;
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  },
};

async function measure(fleet: Fleet, directory: string, { quick, log }: CaseContext): Promise<Figure[]> {
  await using stubs = await startStubs(fleet.engines);
  const model = join(directory, 'model');
  await using session = await connectFleet({
    engines: stubs.urls,
    transport: 'filesystem',
    verify: 'none',
    stateDir: join(directory, 'state'),
    // The probes before the pause are six requests an engine: a busy machine is given time for them.
    timeouts: { probe: 120_000 },
  });
  const bare = bareFanOut(stubs.urls, { directory: model, version: VERSION });
  try {
    const contestants = {
      ours: async () => (await session.update(model, { version: VERSION })).pauseMs ?? Number.NaN,
      bare: async () => (await bare.run()).whole,
    };
    await interleave(contestants, WARM_UP);
    log(`${fleet.engines} engines`);
    return figuresOf(fleet, await interleave(contestants, quick ? 5 : fleet.updates));
  } finally {
    await bare.close();
  }
}

function figuresOf(
  { engines, goals }: Fleet,
  { ours, bare }: { readonly ours: readonly number[]; readonly bare: readonly number[] },
): Figure[] {
  const floor = median(bare);
  const figure = (name: string, q: number, goal: number | undefined): Figure => {
    // Against the median of the floor: what the machine does to us counts as ours.
    const added = quantile(ours, q) - floor;
    return {
      name: `${engines} engines: ${name}`,
      unit: 'ms',
      ours: quantile(ours, q),
      ...(q === 0.5 ? { spread: spread(ours) } : {}),
      limit: { name: `undici alone, ${name}`, value: quantile(bare, q) },
      goal: goal === undefined ? { text: '', met: null } : { text: `added ≤ ${goal} ms`, met: added <= goal },
      note: `${added.toFixed(1)} ms more than the median of undici alone, over ${ours.length} updates.`,
    };
  };
  return [figure('p50', 0.5, goals.p50), figure('p99', 0.99, goals.p99)];
}
