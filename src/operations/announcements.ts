/** What a trainer announces, version after version, as each becomes ready to be put on engines. */
import { hasCode } from '../errors.js';
import {
  type Announcement,
  answerAnnouncement,
  awaitAnnouncement,
  awaitFinished,
  isAnnounced,
  positionAfter,
  watchFrom,
} from '../transports/filesystem/prime-rl/index.js';

export interface WatchOptions {
  /** `<run>/broadcasts`. */
  readonly broadcasts: string;
  /** Ends the following; an update that has begun is finished first, within the deadlines of its calls. */
  readonly signal: AbortSignal;
  /** Milliseconds between two looks. Default 1000, as prime-rl's orchestrator looks. */
  readonly pollMs?: number;
  /** Milliseconds without an announcement after which to give up. Default: none. */
  readonly idleTimeoutMs?: number;
  /** Milliseconds until a trainer that was told to write its files must have written them. Default 1,200,000, prime-rl's patience with its peer. */
  readonly writeTimeoutMs?: number;
  /** Told what a person would want to read in a log. */
  readonly onLog?: (line: string) => void;
  /** Told of each version that is followed, before anybody is paused. */
  readonly onAnnounced?: (announcement: Announcement) => void;
  /** Runs before anybody is touched for a version; what it throws ends the following. */
  readonly beforeUpdate?: (announcement: Announcement) => Promise<void>;
  /** Told of each version that every engine serves, and of adapters as what: their names by engine (its URL), which requests use as their model. */
  readonly onUpdated?: (
    announcement: Announcement,
    adapters: ReadonlyMap<string, string>,
  ) => void | Promise<void>;
  /** Told where that one was withdrawn: everybody serves what they served. */
  readonly onWithdrawn?: (announcement: Announcement) => void;
}

interface Watched extends WatchOptions {
  /** Of {@link watchFrom}. */
  readonly sinceMs: number;
  /** The trainer writes files; it opens no group. */
  readonly loadsFiles: boolean;
}

/**
 * @param apply false: the version was withdrawn before anybody was touched
 * @returns when the signal aborts, which interrupts the waits alone
 */
export async function eachVersion(
  options: Watched,
  apply: (announcement: Announcement) => Promise<boolean>,
): Promise<void> {
  const { broadcasts, signal, pollMs = 1_000, idleTimeoutMs = Number.POSITIVE_INFINITY } = options;
  for (let position = watchFrom(options.sinceMs); ; ) {
    const next = await unlessStopped(signal, async () => {
      const announcement = await awaitAnnouncement(broadcasts, position, {
        ...{ timeoutMs: idleTimeoutMs, pollMs, signal },
      });
      options.onAnnounced?.(announcement);
      const ready = await whenWritten(announcement, options);
      if (ready !== null) await options.beforeUpdate?.(ready);
      return { announcement, ready };
    });
    if (next === null) return;
    const { announcement, ready } = next;
    position = positionAfter(announcement, position);
    if (ready !== null && (await apply(ready))) continue;
    options.onLog?.(`version ${announcement.version} was withdrawn: looking again`);
    options.onWithdrawn?.(announcement);
  }
}

/** null when the signal has interrupted it. */
export async function unlessStopped<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T | null> {
  try {
    return await work();
  } catch (error) {
    if (signal.aborted && hasCode(error, 'WC_UPDATE_ABORTED')) return null;
    throw error;
  }
}

type Kind = Pick<Watched, 'loadsFiles'>;

function writesWhenAnswered({ generation }: Announcement, { loadsFiles }: Kind): boolean {
  return loadsFiles && generation === 'dotfiles';
}

/** The announcement as it is to be followed; null when it was withdrawn, or made anew, before its files were there. */
async function whenWritten(announcement: Announcement, options: Watched): Promise<Announcement | null> {
  if (!writesWhenAnswered(announcement, options)) return announcement;
  const { signal, writeTimeoutMs = 1_200_000 } = options;
  if (!(await answerAnnouncement(announcement))) return null;
  return awaitFinished(announcement, { timeoutMs: writeTimeoutMs, signal });
}

/** Tells the trainer that the engines are ready for this version, unless it knows; false when it was withdrawn. */
export function stands(announcement: Announcement, kind: Kind): Promise<boolean> {
  return writesWhenAnswered(announcement, kind)
    ? isAnnounced(announcement)
    : answerAnnouncement(announcement);
}
