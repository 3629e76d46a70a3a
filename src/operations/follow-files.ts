/** weightcast as the orchestrator of engines that come and go: what a prime-rl trainer writes is put on them by a session. */
import { basename } from 'node:path';
import type { Announcement } from '../transports/filesystem/prime-rl/index.js';
import type { FleetSession } from '../update/session.js';
import { eachVersion, stands, type WatchOptions } from './announcements.js';

export interface FollowFilesOptions extends WatchOptions {
  /** Each version of an adapter is served under a name of its own that begins with this one. Default 'policy'. */
  readonly loraName?: string;
  /** Told of a version that not every engine serves; the next one is tried. Left out: it ends the following. */
  readonly onFailed?: (announcement: Announcement, error: unknown) => void | Promise<void>;
}

/**
 * Puts each version that the trainer writes on the engines of a session, files or an adapter: those who are found are looked up again each time, and those who
 * come, or come back, between two versions are brought to the last one before they count as ready. For a trainer that broadcasts there is
 * {@link import('./follow.js').followTrainer}: the ranks of its group don't change.
 *
 * @param fleet connected with the transport 'filesystem'; stays open
 * @example
 * await using fleet = await connectFleet({
 *   engines: [],
 *   elastic: ['engines.svc:8000,backend=prime-rl'],
 *   transport: 'filesystem',
 * });
 * await followTrainerFiles(fleet, { broadcasts: '/run/broadcasts', signal: AbortSignal.timeout(3_600_000) });
 *
 * @returns when the signal aborts
 * @throws WeightcastError WC_RENDEZVOUS_TIMEOUT when the trainer is silent for too long, or does not finish writing; without `onFailed` what
 * `FleetSession.update` and `FleetSession.loadAdapter` throw
 */
export async function followTrainerFiles(
  fleet: Pick<FleetSession, 'engines' | 'update' | 'loadAdapter'>,
  options: FollowFilesOptions,
): Promise<void> {
  const kind = { sinceMs: 0, loadsFiles: true };
  await eachVersion({ ...options, ...kind }, async (announcement) => {
    if (!(await stands(announcement, kind))) return false;
    try {
      const servedAs = await put(fleet, announcement, options.loraName ?? 'policy');
      const adapters = servedAs === null ? [] : fleet.engines.map(({ id }) => [id, servedAs] as const);
      await options.onUpdated?.(announcement, new Map(adapters));
    } catch (error) {
      if (options.onFailed === undefined) throw error;
      await options.onFailed(announcement, error);
    }
    return true;
  });
}

/** The name of an adapter; null of a model. Without the signal: what has begun is finished. */
async function put(
  fleet: Pick<FleetSession, 'update' | 'loadAdapter'>,
  { path, version, announcedMs, adapter }: Announcement,
  name: string,
): Promise<string | null> {
  if (!adapter) {
    // As prime-rl tags.
    await fleet.update(path, { version: basename(path) });
    return null;
  }
  // A trainer that went back announces the same version again.
  const { servedAs } = await fleet.loadAdapter(path, {
    name,
    version: `${version}-${Math.trunc(announcedMs)}`,
  });
  return servedAs;
}
