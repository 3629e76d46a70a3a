/**
 * Deltas between two versions of a checkpoint: how small, how fast made and applied, beside XOR + zstd -1 and beside int32 indices and values, each of
 * them in plain C on as many threads; and how fast two checkpoints are compared for a push. Every result is held against the new version.
 */
import { mkdir, rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { BenchCase, CaseContext, Figure } from '../case.js';
import { checkpointOf } from '../harness/checkpoint.js';
import { compile } from '../harness/compile.js';
import { availableMemory } from '../harness/machine.js';
import { settled } from '../harness/settled.js';
import { codecFigures, type Share } from './delta/codec.js';
import { diffFigure } from './delta/diff.js';
import { peersOf } from './delta/peers.js';
import { nextVersion } from './delta/versions.js';

const GIB = 2 ** 30;
/** Share of the elements that changed → the goal for the bytes, in percent of the model's. */
const SHARES: readonly Share[] = [
  { kind: 'ulp', fraction: 0.01, goal: 1.5 },
  { kind: 'ulp', fraction: 0.02, goal: 2.5 },
  { kind: 'ulp', fraction: 0.05 },
  { kind: 'random', fraction: 0.02 },
];

export const delta: BenchCase = {
  name: 'delta',
  about: `Deltas of a sharded bf16 checkpoint (all in the page cache) through the addon on ${availableParallelism()} cores, beside XOR + zstd -1 and int32 index + value in C on as many threads; bytes of the model a second.`,
  timeoutMs: 580_000,
  async run(context) {
    const { quick, signal } = context;
    const folder = join(context.scratch, `delta-${process.pid}`);
    await mkdir(folder);
    try {
      const peer = peersOf(await compile('delta_peers', context.scratch), signal);
      const figures: Figure[] = [];
      const base = await checkpointOf(context, quick ? 0.5 : 2);
      for (const share of SHARES) {
        await using versions = await nextVersion({ ...context, scratch: folder }, base, share);
        figures.push(...(await codecFigures(context, { versions, share, folder, peer })));
      }
      const { gibibytes, note } = pairSize(context);
      const scratch = { ...context, scratch: folder };
      const before = await checkpointOf(scratch, gibibytes);
      await using versions = await nextVersion(scratch, before, { kind: 'ulp', fraction: 0.01 });
      await settled();
      figures.push(await diffFigure(context, { versions, folder, peer, note }));
      return figures;
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
};

/** Both versions must stay in the page cache. */
function pairSize({ quick }: CaseContext): { readonly gibibytes: number; readonly note: string | undefined } {
  if (quick) return { gibibytes: 0.5, note: undefined };
  const room = availableMemory() / GIB - 3;
  if (room >= 16) return { gibibytes: 8, note: undefined };
  const gibibytes = Math.max(0.5, Math.floor(room / 2));
  return { gibibytes, note: `two of ${gibibytes} GiB: this machine has no memory for two of 8 GiB.` };
}
