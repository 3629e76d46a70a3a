/** weightcast as the orchestrator beside a prime-rl trainer: its announcements are followed, its bytes never pass through here. */
import { asWeightcastError, WeightcastError } from '../errors.js';
import { type Announcement, fileSystemNow } from '../transports/filesystem/prime-rl/index.js';
import { eachVersion, stands, unlessStopped, type WatchOptions } from './announcements.js';
import { type EngineName, type OperationOptions, targetsOf } from './engines.js';
import { type AdapterNames, loadVersion, unloadReplaced } from './follow-adapters.js';
import { FollowerClaim } from './follow-claim.js';
import { type BroadcasterOptions, initBroadcaster } from './group.js';
import { updateWeights } from './update.js';

export interface FollowOptions extends Omit<OperationOptions, 'signal'>, WatchOptions {
  /** The trainer's group, which the engines join first. Left out: the trainer writes files, which the engines load. */
  readonly group?: Pick<BroadcasterOptions, 'host' | 'port' | 'inferenceWorldSize' | 'joinTimeoutMs'>;
  /**
   * Under which name adapters are loaded; other servers than prime-rl's, which can't replace an adapter in place, get each version under a name of its own
   * that begins with this one, and the version before is unloaded after `onUpdated`. Default 'policy'.
   */
  readonly loraName?: string;
  /** Total milliseconds in which an engine must have received or loaded a version. Default: `timeoutMs`, or the backend's own patience (prime-rl: 720,000). */
  readonly updateTimeoutMs?: number;
  /**
   * Where those who update the same engines find one another, as `connectFleet` has it: the engines are this follower's until it ends. null: nobody is kept from
   * them.
   */
  readonly stateDir?: string | null;
}

/**
 * For each version that the trainer announces: pauses all engines, lets the trainer send, updates all, and resumes those that are whole. Files of a trainer
 * since prime-rl's #3357 are written once it is answered: they are waited for, and nobody is paused until they are there. An announcement of a run that
 * ended before the engines joined is not followed: nobody would send, and they would wait in NCCL for good.
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
 * the trainer is silent for too long, or does not finish writing; WC_UPDATE_BUSY when somebody else updates one of the engines, WC_STATE_DIR
 */
export async function followTrainer(engines: readonly EngineName[], options: FollowOptions): Promise<void> {
  const { broadcasts, group, signal } = options;
  const sinceMs = group === undefined ? 0 : await fileSystemNow(broadcasts);
  let adapters: AdapterNames = new Map();
  const held: { claim: FollowerClaim | null } = { claim: null };
  try {
    const begun = await unlessStopped(signal, async () => {
      held.claim = await claimOf(engines, options);
      if (group !== undefined) await joinGroup(engines, { ...options, ...group }, held.claim);
      return true;
    });
    if (begun === null) return;
    const loadsFiles = group === undefined;
    await eachVersion({ ...options, sinceMs, loadsFiles }, async (announcement) => {
      const served = await applied(engines, announcement, options, held.claim);
      if (served === null) return false;
      await options.onUpdated?.(announcement, served);
      await unloadReplaced(engines, adapters, served, uninterrupted(options));
      if (announcement.adapter) adapters = served;
      return true;
    });
  } finally {
    await held.claim?.release().catch((error: unknown) => options.onLog?.(String(error)));
  }
}

async function claimOf(
  engines: readonly EngineName[],
  options: FollowOptions,
): Promise<FollowerClaim | null> {
  const { stateDir, headers, group, signal } = options;
  const ids = targetsOf(engines, options).map(({ id }) => id);
  const claimed = { stateDir, headers, loadsFiles: group === undefined };
  return FollowerClaim.take(ids, claimed, signal).catch((error: unknown) => {
    if (!signal.aborted) throw error;
    throw new WeightcastError('WC_UPDATE_ABORTED', 'interrupted', { phase: 'preflight', cause: error });
  });
}

const STILL_JOINING =
  "interrupted while the engines join the trainer's group: they wait for it until the timeout that they were given, and answer nothing else before";

/** Whoever is killed in it leaves workers that wait in NCCL: the next one is told why they don't answer. */
async function joinGroup(
  engines: readonly EngineName[],
  options: BroadcasterOptions,
  claim: FollowerClaim | null,
): Promise<void> {
  await claim?.ask('join');
  try {
    await initBroadcaster(engines, options);
  } catch (error) {
    if (options.signal?.aborted === true) options.onLog?.(STILL_JOINING);
    throw error;
  }
  await claim?.joined();
}

/** Without the signal: an update that has begun is finished, or engines would stay paused and a trainer send to nobody. */
function uninterrupted({ signal: _, loraName: __, ...options }: FollowOptions): OperationOptions {
  return options;
}

/** What the engines serve adapters as; null when the announcement was withdrawn: everybody serves what they served. */
async function applied(
  engines: readonly EngineName[],
  announcement: Announcement,
  options: FollowOptions,
  claim: FollowerClaim | null,
): Promise<AdapterNames | null> {
  const { group, loraName = 'policy' } = options;
  const operation = uninterrupted(options);
  if (announcement.adapter) return loadVersion(engines, announcement, loraName, operation);
  let withdrawn: WeightcastError | null = null;
  await claim?.begin(announcement.path, String(announcement.version));
  const onPaused = async () => {
    // Before the trainer is answered: from then on it may be sending.
    await claim?.ask(group === undefined ? 'load' : 'receive', announcement.path);
    if (await stands(announcement, { loadsFiles: group === undefined })) return;
    withdrawn = new WeightcastError('WC_UPDATE_ABORTED', 'the trainer withdrew its announcement', {
      phase: 'pause',
    });
    throw withdrawn;
  };
  try {
    await claim?.ask('pause');
    await updateWeights(engines, announcement.path, {
      ...operation,
      from: group === undefined ? 'disk' : 'broadcast',
      updateTimeoutMs: options.updateTimeoutMs,
      onPaused,
    });
    claim?.are('serving-new');
    return new Map();
  } catch (error) {
    claim?.ended(asWeightcastError(error, 'WC_UPDATE_FAILED'));
    // This very error: one that names who could not be resumed has it as its cause.
    if (error === withdrawn) return null;
    throw error;
  }
}
