/** A rank is killed in the middle of a transfer: how long until everybody is free, and until the next group stands. */
import type { BenchCase } from '../../case.js';
import { median, quantile, spread } from '../../harness/statistics.js';
import { joinAll, ncclEnvironment, RankProcess } from '../rank/process.js';
import { MIB, setUp } from './setup.js';

const UNBLOCK_GOAL_MS = 3_000;
const REBUILD_GOAL_MS = 2_000;
const FRAME = 64 * MIB;
const FRAMES = 64;

interface Round {
  readonly unblockedMs: number;
  readonly rebuiltMs: number;
}

const opened = async (rank: number): Promise<RankProcess> => {
  const process = new RankProcess(ncclEnvironment(rank, 'hosts'));
  await process.call('open', { device: 0 });
  return process;
};

/**
 * Three ranks; the last is killed after a delay of its own in each round. As the coordinator does when an engine's connection breaks, everybody else aborts
 * at once. The survivors are new processes in the next group, as a server's workers are when they build a fresh communicator: what is timed is the join.
 */
async function round(delayMs: number): Promise<Round> {
  const ranks = await Promise.all([opened(0), opened(1), opened(2)]);
  const fresh = await Promise.all([opened(0), opened(1), opened(2)]);
  try {
    await joinAll(ranks, 60_000);
    const [root, survivor, victim] = ranks;
    const buffer = await root.call('allocate', { byteLength: FRAME });
    const target = await survivor.call('allocate', { byteLength: FRAME });
    const doomed = await victim.call('allocate', { byteLength: FRAME });
    const order = { byteLength: FRAME * FRAMES, frameBytes: FRAME, keep: false, timeoutMs: 120_000 };
    const sending = (async () => {
      for (let frame = 0; frame < FRAMES; frame += 1) {
        await root.call('broadcast', { buffer, offset: 0, byteLength: FRAME, timeoutMs: 120_000 });
      }
    })();
    const blocked = [sending, survivor.call('receive', { ...order, buffer: target })];
    const dying = victim.call('receive', { ...order, buffer: doomed }).catch(() => undefined);
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    const began = performance.now();
    await victim.kill();
    const settled = Promise.allSettled(blocked);
    await Promise.all([root.call('abort', null), survivor.call('abort', null)]);
    const ends = await settled;
    const unblockedMs = performance.now() - began;
    await dying;
    if (ends.every(({ status }) => status === 'fulfilled'))
      throw new Error('the transfer ended before the kill');
    const rebuiltMs = await joinAll(fresh, 60_000);
    return { unblockedMs, rebuiltMs };
  } finally {
    await Promise.all([...ranks, ...fresh].map((rank) => rank.kill()));
  }
}

export const recovery: BenchCase = {
  name: 'gpu-recovery',
  about:
    'A rank killed (SIGKILL) in the middle of a transfer to 2 ranks: time until all others are free, and to build the next communicator.',
  timeoutMs: 590_000,
  async run(context) {
    await setUp(context);
    const rounds: Round[] = [];
    const count = context.quick ? 2 : 100;
    for (let index = 0; index < count && !context.signal.aborted; index += 1) {
      rounds.push(await round(5 + ((index * 37) % 200)));
      if (index % 10 === 9) context.log(`${index + 1} of ${count}`);
    }
    const figure = (name: string, times: readonly number[], goalMs: number) => ({
      name,
      unit: 'ms',
      ours: median(times),
      spread: spread(times),
      goal: {
        text: `≤ ${goalMs} ms, ${count} times of ${count}`,
        met: times.length === count && Math.max(...times) <= goalMs,
      },
      note: `p99 ${quantile(times, 0.99).toFixed(0)} ms, longest ${Math.max(...times).toFixed(0)} ms of ${times.length}`,
    });
    return [
      figure(
        'everybody unblocked',
        rounds.map(({ unblockedMs }) => unblockedMs),
        UNBLOCK_GOAL_MS,
      ),
      figure(
        'next communicator stands',
        rounds.map(({ rebuiltMs }) => rebuiltMs),
        REBUILD_GOAL_MS,
      ),
    ];
  },
};
