/** The orchestrator's half of the handshake: a prime-rl trainer sends, weightcast pauses the engines and asks them to receive. */
import { randomUUID } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolder } from '../publish/durable.js';
import { type BroadcastStep, isAdapter, listSteps, modifiedMs } from './layout.js';
import { ANSWERS, ASKS, type MarkerGeneration, markedMs, touch } from './markers.js';
import { type WaitOptions, waitFor } from './wait.js';

/** A version that a trainer wants to send, or has written. */
export interface Announcement extends BroadcastStep {
  readonly generation: MarkerGeneration;
  /** When it was announced, by the clock of the file system. */
  readonly announcedMs: number;
  /** The folder holds an adapter: engines load it, and nobody is paused. Known once the folder is written: see {@link awaitFinished}. */
  readonly adapter: boolean;
}

export interface WatchPosition {
  /** The version that the engines have; null before the first. */
  readonly version: number | null;
  /** When that was announced; 0 before the first. */
  readonly announcedMs: number;
  /**
   * What was announced before this is of a run that has ended: a trainer announces only once the engines have joined its group. 0 takes whatever is there,
   * which is right for files. See {@link fileSystemNow}.
   */
  readonly sinceMs: number;
}

/** The first position of a watch. */
export function watchFrom(sinceMs: number): WatchPosition {
  return { version: null, announcedMs: 0, sinceMs };
}

/** The newest version that has not been updated to; null when there is none, or when its folder was cleaned away meanwhile. */
export async function nextAnnouncement(
  broadcasts: string,
  position: WatchPosition,
): Promise<Announcement | null> {
  for (const step of await listSteps(broadcasts)) {
    for (const generation of ['dotfiles', 'stable'] as const) {
      const announcedMs = await markedMs(step.path, ASKS[generation]);
      if (announcedMs === null || announcedMs < position.sinceMs) continue;
      if (!isNew(step, announcedMs, position)) return null;
      return { ...step, generation, announcedMs, adapter: await isAdapter(step) };
    }
  }
  return null;
}

/** A trainer that went back to an earlier checkpoint announces the same versions again, later. */
function isNew({ version }: BroadcastStep, announcedMs: number, position: WatchPosition): boolean {
  if (position.version === null || version > position.version) return true;
  return announcedMs > position.announcedMs;
}

/** Waits for the next version. @throws WeightcastError WC_RENDEZVOUS_TIMEOUT, WC_UPDATE_ABORTED */
export function awaitAnnouncement(
  broadcasts: string,
  position: WatchPosition,
  wait: Omit<WaitOptions, 'pollMs'> & { readonly pollMs?: number },
): Promise<Announcement> {
  const what = `a trainer that announces a version in ${broadcasts}`;
  return waitFor(what, () => nextAnnouncement(broadcasts, position), { pollMs: 1_000, ...wait });
}

/**
 * Tells the trainer that every engine is paused: it sends from now on. Comes after the pause and before the engines are asked to receive.
 *
 * @returns false when the announcement was withdrawn or made anew: nobody will send for it, so no engine may be asked to receive
 */
export async function answerAnnouncement(announcement: Announcement): Promise<boolean> {
  if (!(await isAnnounced(announcement))) return false;
  await touch(announcement.path, ANSWERS[announcement.generation]);
  return true;
}

/** False when it was withdrawn or made anew: trainers remove the whole folder before they announce it again. */
export async function isAnnounced({ path, generation, announcedMs }: Announcement): Promise<boolean> {
  return (await markedMs(path, ASKS[generation])) === announcedMs;
}

/**
 * Waits until a trainer of the dotfiles has written the files that it announced: it begins when it is answered, into a folder that is empty until then
 * (`FileSystemWeightReceiver` since #3357). Only then does the folder tell an adapter from a model.
 *
 * @returns null when the announcement was withdrawn or made anew
 * @throws WeightcastError WC_RENDEZVOUS_TIMEOUT, WC_UPDATE_ABORTED
 */
export async function awaitFinished(
  announcement: Announcement,
  wait: Omit<WaitOptions, 'pollMs'>,
): Promise<Announcement | null> {
  const { path, announcedMs } = announcement;
  const look = async (): Promise<'finished' | 'withdrawn' | null> => {
    if (!(await isAnnounced(announcement))) return 'withdrawn';
    const finishedMs = await markedMs(path, '.finished');
    return finishedMs !== null && finishedMs >= announcedMs ? 'finished' : null;
  };
  const found = await waitFor(`a trainer that finishes writing ${path}`, look, { ...wait, pollMs: 100 });
  return found === 'withdrawn' ? null : { ...announcement, adapter: await isAdapter(announcement) };
}

export function positionAfter(
  { version, announcedMs }: Announcement,
  { sinceMs }: WatchPosition,
): WatchPosition {
  return { version, announcedMs, sinceMs };
}

/** What time it is on the file system that holds the folder, milliseconds: another machine's clock, where it is shared. */
export async function fileSystemNow(folder: string): Promise<number> {
  await makeFolder(folder, false);
  const probe = join(folder, `.weightcast-${randomUUID()}`);
  try {
    await writeFile(probe, '');
    return (await modifiedMs(probe)) ?? 0;
  } finally {
    await rm(probe, { force: true });
  }
}
