/** Frames of 256 MiB to 4 GiB out of device memory through the executor, against bare ncclBroadcast of the same size. */
import type { BenchCase, Figure } from '../../case.js';
import { interleave, median, spread } from '../../harness/statistics.js';
import { bareBroadcast } from '../bare.js';
import { type Sharing, withRanks } from '../rank/process.js';
import { GIB, MIB, setUp } from './setup.js';

const GOAL = 0.85;
const FRAMES = 4;
const TIMEOUT_MS = 240_000;

/** Bytes a second of a transfer of FRAMES frames, each put together from 64 MiB ranges of device memory. */
async function ours(ranks: number, frameBytes: number, sharing: Sharing): Promise<number> {
  return withRanks(ranks, { sharing }, async ([root, ...receivers]) => {
    const byteLength = FRAMES * frameBytes;
    const buffer = await root.call('allocate', { byteLength });
    const targets = await Promise.all(
      receivers.map((rank) => rank.call('allocate', { byteLength: frameBytes })),
    );
    const pass = async (bytes: number): Promise<number> => {
      const receive = receivers.map((rank, index) =>
        rank.call('receive', {
          buffer: targets[index] as number,
          byteLength: bytes,
          frameBytes,
          keep: false,
          timeoutMs: TIMEOUT_MS,
        }),
      );
      const stats = await root.call('transfer', {
        source: { kind: 'device', buffer, byteLength: bytes },
        frameBytes,
        rangeBytes: 64 * MIB,
        timeoutMs: TIMEOUT_MS,
      });
      await Promise.all(receive);
      return stats.bytes / (stats.elapsedMs / 1e3);
    };
    await pass(frameBytes); // sets the connections up
    return pass(byteLength);
  });
}

export const broadcast: BenchCase = {
  name: 'gpu-broadcast',
  about:
    'Frames from device memory through the executor to 1 and 3 other ranks on the same GPU, against bare ncclBroadcast (a C program) of the same size.',
  timeoutMs: 560_000,
  async run(context) {
    const { bare, sharings } = await setUp(context);
    const figures: Figure[] = [];
    for (const sharing of sharings) {
      for (const ranks of [2, 4]) {
        for (const byteLength of context.quick ? [32 * MIB] : [256 * MIB, GIB, 4 * GIB]) {
          context.log(`${ranks} ranks (${sharing}), ${byteLength / MIB} MiB`);
          const rates = await interleave(
            {
              ours: () => ours(ranks, byteLength, sharing),
              bare: () => bareBroadcast(bare, { ranks, byteLength, repeats: FRAMES, sharing }),
            },
            context.quick || byteLength > GIB ? 1 : 3,
          );
          const peer = median(rates.bare);
          figures.push({
            name: `${ranks} ranks (${sharing}), frames of ${byteLength / MIB} MiB`,
            unit: 'GB/s',
            ours: median(rates.ours) / 1e9,
            spread: spread(rates.ours),
            peer: { name: 'bare ncclBroadcast', value: peer / 1e9 },
            goal: { text: `≥ ${GOAL * 100} % of bare`, met: median(rates.ours) >= GOAL * peer },
          });
        }
      }
    }
    return figures;
  },
};
