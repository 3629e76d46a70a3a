/** What the coordinator adds to a pause and a resume of a fleet, over the time that its slowest engine takes itself: beside prime-rl's client and undici alone. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { connectFleet } from '#weightcast/index.js';
import { writeTinyModel } from '#weightcast/testing/tiny-model.js';
import type { PythonAttempt } from '../../test/peers/support/venv.js';
import type { BenchCase, CaseContext, Figure } from '../case.js';
import { interleave, quantile, spread } from '../harness/statistics.js';
import { timesOf } from './control-plane/ours.js';
import { primeRlClient, startPrimeRl } from './control-plane/prime-rl.js';
import { bareFanOut, type PauseTimes } from './pause/bare.js';
import { SERVICE_MS } from './pause/service.js';
import { socketFanOut } from './pause/sockets.js';
import { type Stubs, startStubs } from './pause/stubs.js';

const VERSION = '1';
/** JavaScript is compiled as it runs: a session's first updates are not the ones that count here. */
const WARM_UP = 10;
/** How much less than prime-rl's client. */
const TIMES_LESS = 5;
/** Of a size of fleet: no round begins after it. */
const ROUNDS_MS = 180_000;

interface Fleet {
  readonly engines: number;
  readonly rounds: number;
  readonly goals?: { readonly p50: number; readonly p99: number };
}

const FLEETS: readonly Fleet[] = [
  { engines: 1, rounds: 200 },
  { engines: 8, rounds: 200 },
  { engines: 64, rounds: 300, goals: { p50: 3, p99: 15 } },
  { engines: 512, rounds: 60 },
];

/** What a round added to the slowest engine's own time, in milliseconds. */
interface Added {
  /** By the pause and the resume. */
  readonly both: number;
  /** By all from the first pause request to the last answer to a resume. */
  readonly whole: number;
}

export const controlPlane: BenchCase = {
  name: 'control-plane',
  about: `Pause and resume of stub engines (another process) that take ${SERVICE_MS.least} to ${SERVICE_MS.most} ms each, the same for all contestants of a round: from the first request to the last answer, less what the slowest engine took by its own clock, summed over both. Ours are whole updates by file; the peer is the order of calls of prime-rl's client on httpx and tenacity; the limit undici alone; the notes have bytes made beforehand over node:net. Connections are warm.`,
  timeoutMs: 900_000,
  async run(context) {
    await mkdir(context.scratch, { recursive: true });
    const directory = await mkdtemp(join(context.scratch, 'control-plane-'));
    const attempt = await primeRlClient();
    try {
      await writeTinyModel(join(directory, 'model'));
      const figures: Figure[] = [];
      for (const fleet of FLEETS) figures.push(...(await measure(fleet, { directory, attempt, context })));
      return figures;
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  },
};

interface Scene {
  readonly directory: string;
  readonly attempt: PythonAttempt;
  readonly context: CaseContext;
}

async function measure(fleet: Fleet, { directory, attempt, context }: Scene): Promise<Figure[]> {
  const { quick, log, version } = context;
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
  await using peer =
    attempt.environment === null
      ? null
      : await startPrimeRl(
          attempt.environment,
          { urls: stubs.urls, directory: join(directory, 'prime-rl') },
          version,
        );
  const load = { directory: model, version: VERSION };
  const bare = bareFanOut(stubs.urls, load);
  const sockets = await socketFanOut(stubs.urls, load);
  try {
    const contestants = {
      ours: added(stubs, async () => timesOf(await session.update(model, { version: VERSION }))),
      bare: added(stubs, () => bare.run()),
      sockets: added(stubs, () => sockets.run()),
      peer: peer === null ? async () => null : added(stubs, () => peer.run()),
    };
    await interleave(contestants, quick ? 2 : WARM_UP);
    log(`${fleet.engines} engines`);
    const {
      ours,
      bare: limit,
      sockets: floor,
      peer: theirs,
    } = await interleave(contestants, quick ? 5 : fleet.rounds, ROUNDS_MS);
    const measured = { ours, limit, floor, peer: theirs.filter((one) => one !== null) };
    return figuresOf(fleet, measured, attempt.why);
  } finally {
    await bare.close();
    await sockets.close();
  }
}

/** Every contestant meets the same engines in its nth round. */
function added(stubs: Stubs, run: () => Promise<PauseTimes>): () => Promise<Added> {
  let round = 0;
  return async () => {
    round += 1;
    await stubs.round(round);
    const { pause, resume, whole } = await run();
    const slowest = await stubs.round(0);
    const engines = slowest.pause + slowest.resume;
    return { both: pause + resume - engines, whole: whole - engines };
  };
}

interface Measured {
  readonly ours: readonly Added[];
  readonly limit: readonly Added[];
  /** Of bytes made beforehand. */
  readonly floor: readonly Added[];
  /** Empty without a Python that has httpx. */
  readonly peer: readonly Added[];
}

function figuresOf({ engines, goals }: Fleet, measured: Measured, why: string | null): Figure[] {
  const figure = (name: string, of: keyof Added, q: number, goal?: number): Figure => {
    const at = (added: readonly Added[]) =>
      quantile(
        added.map((one) => one[of]),
        q,
      );
    const [ours, peer] = [at(measured.ours), measured.peer.length === 0 ? null : at(measured.peer)];
    const text = `≤ ${goal} ms, ${TIMES_LESS} times less than prime-rl's client`;
    const enough = peer === null ? null : peer >= TIMES_LESS * ours;
    const floor = `bytes made beforehand over node:net: ${at(measured.floor).toFixed(2)} ms`;
    return {
      name: `${engines} engines: ${name}`,
      unit: 'ms',
      ours,
      ...(q === 0.5 ? { spread: spread(measured.ours.map((one) => one[of])) } : {}),
      limit: { name: 'undici alone', value: at(measured.limit) },
      ...(peer === null ? {} : { peer: { name: "prime-rl's client", value: peer } }),
      note: peer === null ? `${floor}; no httpx here: ${why}` : floor,
      goal: goal === undefined ? { text: '', met: null } : { text, met: ours <= goal && enough },
    };
  };
  const all = goals === undefined ? [] : [figure('the whole pause, p50', 'whole', 0.5)];
  return [
    figure('added, p50', 'both', 0.5, goals?.p50),
    figure('added, p99', 'both', 0.99, goals?.p99),
    ...all,
  ];
}
