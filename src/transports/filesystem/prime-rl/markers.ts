/**
 * The empty files by which prime-rl's trainer and orchestrator wait for one another (contracts/prime-rl.md 3.5). Engines never look at them.
 *
 *     until August 2026     trainer: STABLE         orchestrator, all paused: NCCL_READY         trainer sends
 *     since (#3357)         trainer: .sender_ready  orchestrator, all paused: .receiver_ready    trainer: .started, sends, .finished
 *
 * None says which run wrote it, so the times tell: an answer that is older than its question was given to somebody else.
 */
import { mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { modifiedMs } from './layout.js';

export const MARKERS = [
  'STABLE',
  'NCCL_READY',
  '.sender_ready',
  '.receiver_ready',
  '.started',
  '.finished',
] as const;

export type Marker = (typeof MARKERS)[number];

/** Which of the two protocols. */
export type MarkerGeneration = 'stable' | 'dotfiles';

export const ASKS: Readonly<Record<MarkerGeneration, Marker>> = {
  stable: 'STABLE',
  dotfiles: '.sender_ready',
};
export const ANSWERS: Readonly<Record<MarkerGeneration, Marker>> = {
  stable: 'NCCL_READY',
  dotfiles: '.receiver_ready',
};

/** Makes the marker anew: its time is that of the file system's clock, which this machine's may differ from. Makes the folder too, which a resumed run may lack. */
export async function touch(folder: string, marker: Marker): Promise<void> {
  await mkdir(folder, { recursive: true });
  const path = join(folder, marker);
  await rm(path, { force: true });
  const file = await open(path, 'w');
  await file.close();
}

/** When the marker was set; null when it is not there. */
export function markedMs(folder: string, marker: Marker): Promise<number | null> {
  return modifiedMs(join(folder, marker));
}

/** Takes markers away; what else is in the folder stays. */
export async function clear(folder: string, markers: readonly Marker[] = MARKERS): Promise<void> {
  await Promise.all(markers.map((marker) => rm(join(folder, marker), { force: true })));
}
