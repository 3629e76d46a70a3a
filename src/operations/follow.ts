/** weightcast as the orchestrator beside a prime-rl trainer: its announcements are followed, its bytes never pass through here. */
import { hasCode, WeightcastError } from '../errors.js';
import {
  type Announcement,
  answerAnnouncement,
  awaitAnnouncement,
  fileSystemNow,
  positionAfter,
  watchFrom,
} from '../transports/filesystem/prime-rl/index.js';
import type { EngineName, OperationOptions } from './engines.js';
import { type BroadcasterOptions, initBroadcaster } from './group.js';
import { updateWeights } from './update.js';

export interface FollowOptions extends OperationOptions {
  /** `<run>/broadcasts`. */
  readonly broadcasts: string;
  /** Ends the following; a running update is finished or undone first. */
  readonly signal: AbortSignal;
  /** The trainer's group, which the engines join first. Left out: the trainer writes files, which the engines load. */
  readonly group?: Pick<BroadcasterOptions, 'host' | 'port' | 'inferenceWorldSize' | 'joinTimeoutMs'>;
  /** Under which name adapters are loaded. Default 'policy'. */
  readonly loraName?: string;
  /** Milliseconds between two looks. Default 1000, as prime-rl's orchestrator looks. */
  readonly pollMs?: number;
  /** Milliseconds without an announcement after which to give up. Default: none. */
  readonly idleTimeoutMs?: number;
  /** Told of each version that every engine serves. */
  readonly onUpdated?: (announcement: Announcement) => void | Promise<void>;
}

/**
 * For each version that the trainer announces: pauses all engines, lets the trainer send, updates all, and resumes those that are whole. An announcement of
 * a run that ended before the engines joined is not followed: nobody would send, and they would wait in NCCL for good.
 *
 * @example
 * await followTrainer(['http://10.0.0.5:8100'], {
 *   broadcasts: '/run/broadcasts',
 *   group: { host: 'trainer', port: 29501, inferenceWorldSize: 8 },
 *   signal: AbortSignal.timeout(3_600_000),
 * });
 *
 * @returns when the signal aborts
 * @throws WeightcastError what {@link initBroadcaster} and {@link updateWeights} throw: engines that are not whole stay paused; WC_RENDEZVOUS_TIMEOUT when
 * the trainer is silent for too long
 */
export async function followTrainer(engines: readonly EngineName[], options: FollowOptions): Promise<void> {
  const { broadcasts, group, signal, pollMs = 1_000, idleTimeoutMs = Number.POSITIVE_INFINITY } = options;
  const sinceMs = group === undefined ? 0 : await fileSystemNow(broadcasts);
  try {
    if (group !== undefined) await initBroadcaster(engines, { ...options, ...group });
    for (let position = watchFrom(sinceMs); ; ) {
      const wait = { timeoutMs: idleTimeoutMs, pollMs, signal };
      const announcement = await awaitAnnouncement(broadcasts, position, wait);
      position = positionAfter(announcement, position);
      if (await applied(engines, announcement, options)) await options.onUpdated?.(announcement);
    }
  } catch (error) {
    if (signal.aborted && hasCode(error, 'WC_UPDATE_ABORTED')) return;
    throw error;
  }
}

/** False when the announcement was withdrawn: everybody serves what they served. */
async function applied(
  engines: readonly EngineName[],
  announcement: Announcement,
  options: FollowOptions,
): Promise<boolean> {
  const { group, loraName = 'policy', onLog } = options;
  let withdrawn = false;
  const onPaused = async () => {
    withdrawn = !(await answerAnnouncement(announcement));
    if (withdrawn) throw new WeightcastError('WC_UPDATE_ABORTED', 'the trainer withdrew its announcement');
  };
  try {
    await updateWeights(engines, announcement.path, {
      ...options,
      ...(announcement.adapter ? { loraName } : { loraName: undefined }),
      from: group === undefined ? 'disk' : 'broadcast',
      onPaused,
    });
    return true;
  } catch (error) {
    if (!withdrawn) throw error;
    onLog?.(`version ${announcement.version} was withdrawn: looking again`);
    return false;
  }
}
