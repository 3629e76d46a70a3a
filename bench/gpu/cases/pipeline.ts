/** File to GPU through the executor with one rank, against the slower of reading and copying. */
import type { BenchCase } from '../../case.js';
import { interleave, median, spread } from '../../harness/statistics.js';
import { bareRate } from '../bare.js';
import { withRanks } from '../rank/process.js';
import { fileOf, GIB, MIB, setUp } from './setup.js';

const GOAL = 0.9;
const READERS = 4;

async function ours(path: string, byteLength: number): Promise<number> {
  return withRanks(1, {}, async ([root]) => {
    const order = { frameBytes: 256 * MIB, rangeBytes: 256 * MIB, timeoutMs: 240_000 };
    const first = Math.min(byteLength, 512 * MIB);
    await root
      .call('transfer', { ...order, source: { kind: 'file', path, byteLength } })
      .catch(() => undefined);
    const stats = await root.call('transfer', { ...order, source: { kind: 'file', path, byteLength } });
    // The first two frames are staged before the clock starts.
    return (stats.bytes - first) / (stats.elapsedMs / 1e3);
  });
}

export const pipeline: BenchCase = {
  name: 'gpu-pipeline',
  about:
    'A file in the page cache through pinned memory into the GPU (one rank, so nothing is sent), against the slower of pread and cuMemcpyHtoDAsync from pinned memory.',
  timeoutMs: 400_000,
  async run(context) {
    const { bare } = await setUp(context);
    const byteLength = context.quick ? GIB : 8 * GIB;
    const path = await fileOf(context, byteLength);
    await bareRate(bare, 'read', path, READERS); // into the page cache
    const rates = await interleave(
      {
        ours: () => ours(path, byteLength),
        read: () => bareRate(bare, 'read', path, READERS),
        copy: () => bareRate(bare, 'copy', Math.min(byteLength, 4 * GIB), 2),
      },
      context.quick ? 1 : 3,
    );
    const [read, copy] = [median(rates.read), median(rates.copy)];
    const limit = Math.min(read, copy);
    return [
      {
        name: 'file → GPU',
        unit: 'GB/s',
        ours: median(rates.ours) / 1e9,
        spread: spread(rates.ours),
        limit: {
          name: read < copy ? `pread, ${READERS} threads` : 'cuMemcpyHtoDAsync',
          value: limit / 1e9,
        },
        goal: {
          text: `≥ ${GOAL * 100} % of the slower of disk and copy`,
          met: median(rates.ours) >= GOAL * limit,
        },
        note: `pread ${(read / 1e9).toFixed(1)} GB/s, copy ${(copy / 1e9).toFixed(1)} GB/s`,
      },
    ];
  },
};
