/** What `push --delta-from` does before the pause: finds the elements that differ. */
import type { CaseContext, Figure } from '../../case.js';
import { interleave, median, spread } from '../../harness/statistics.js';
import { sparseDiff } from './ours.js';
import type { Peer } from './peers.js';
import type { Versions } from './versions.js';

const GOAL = 2;
const ROUNDS_MS = 60_000;

export async function diffFigure(
  { quick, signal, log }: CaseContext,
  options: {
    readonly versions: Versions;
    readonly folder: string;
    readonly peer: Peer;
    readonly note: string | undefined;
  },
): Promise<Figure> {
  const { versions, folder, peer, note } = options;
  const rate = (seconds: number) => versions.next.byteLength / seconds / 1e9;
  const { diff, read } = await interleave(
    {
      diff: async () => {
        const { seconds, result } = await sparseDiff(versions, { spool: folder, signal });
        if (result !== versions.changed)
          throw new Error(`${result} elements were found, not ${versions.changed}`);
        log(`diff: ${rate(seconds).toFixed(2)} GB/s`);
        return seconds;
      },
      read: async () => {
        const { seconds } = await peer('read', versions.files.flat());
        log(`read both: ${rate(seconds).toFixed(2)} GB/s`);
        return seconds;
      },
    },
    quick ? 1 : 3,
    ROUNDS_MS,
  );
  const ours = median(diff.map(rate));
  const size = `${Math.round((versions.next.byteLength / 2 ** 30) * 10) / 10} GiB`;
  return {
    ...{ name: `difference of two checkpoints of ${size}, 1 % changed`, unit: 'GB/s', ours },
    spread: spread(diff.map(rate)),
    limit: { name: 'C that reads and compares both', value: median(read.map(rate)) },
    goal: { text: `≥ ${GOAL}`, met: ours >= GOAL },
    ...(note === undefined ? {} : { note }),
  };
}
