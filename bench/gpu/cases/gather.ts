/** Strided blocks packed on the device, against one plain device-to-device copy of as many bytes. */
import type { BenchCase, Figure } from '../../case.js';
import { interleave, median, spread } from '../../harness/statistics.js';
import { bareRate } from '../bare.js';
import { withRanks } from '../rank/process.js';
import { GIB, MIB, setUp } from './setup.js';

const GOAL = 0.85;
const PASSES = 5;

async function ours(byteLength: number, blockBytes: number): Promise<number> {
  return withRanks(1, {}, async ([root]) => {
    const source = await root.call('allocate', { byteLength: 2 * byteLength });
    const target = await root.call('allocate', { byteLength });
    const times: number[] = [];
    for (let pass = 0; pass <= PASSES; pass += 1) {
      const count = byteLength / blockBytes;
      const ms = await root.call('gather', {
        target,
        source,
        blockBytes,
        strideBytes: 2 * blockBytes,
        count,
      });
      if (pass > 0) times.push(ms);
    }
    return byteLength / (median(times) / 1e3);
  });
}

export const gather: BenchCase = {
  name: 'gpu-gather',
  about:
    'Every second block of device memory packed into another buffer, against one cuMemcpyDtoDAsync of as many bytes.',
  async run(context) {
    const { bare } = await setUp(context);
    const byteLength = context.quick ? 64 * MIB : 4 * GIB;
    const figures: Figure[] = [];
    for (const blockBytes of [4096, 64 * 1024, MIB, 16 * MIB]) {
      const rates = await interleave(
        {
          ours: () => ours(byteLength, blockBytes),
          copy: () => bareRate(bare, 'gather', byteLength, PASSES),
        },
        context.quick ? 1 : 3,
      );
      const limit = median(rates.copy);
      figures.push({
        name: `blocks of ${blockBytes / 1024} KiB`,
        unit: 'GB/s',
        ours: median(rates.ours) / 1e9,
        spread: spread(rates.ours),
        limit: { name: 'one device-to-device copy', value: limit / 1e9 },
        goal: { text: `≥ ${GOAL * 100} % of a plain copy`, met: median(rates.ours) >= GOAL * limit },
      });
    }
    return figures;
  },
};
