/** Engines that are found once, for a group whose ranks cannot change: that of somebody else's trainer. */
import { setTimeout as sleep } from 'node:timers/promises';
import { WeightcastError } from '../errors.js';
import { type Member, worldSizeOf } from '../fleet/membership.js';
import { mergeMembers, requireOnce } from '../fleet/merge.js';
import { openMembership } from '../update/membership.js';
import { resolveSettings } from '../update/settings.js';
import { specOf, targetsOf } from '../update/targets.js';
import type { EngineSpec, FleetOptions } from '../update/types.js';

export interface FoundGroup extends AsyncDisposable {
  /** In the order of their ranks. */
  readonly engines: readonly EngineSpec[];
  /** Looks again. @throws WeightcastError WC_DISCOVERY_FAILED when others are there than those who joined */
  requireSame(signal: AbortSignal): Promise<void>;
}

const LOOK_MS = 1_000;

/**
 * @param inferenceWorldSize GPU workers that must be there, for as long as `timeouts.discovery` allows
 * @throws WeightcastError WC_DISCOVERY_FAILED, WC_CONFIG_INVALID
 */
export async function findGroup(
  options: FleetOptions,
  {
    inferenceWorldSize,
    signal,
  }: { readonly inferenceWorldSize: number | null; readonly signal: AbortSignal },
): Promise<FoundGroup> {
  const settings = resolveSettings(options);
  const membership = openMembership(settings);
  const look = async (until: AbortSignal): Promise<readonly Member[]> => {
    const found = (await membership?.members(until)) ?? [];
    return requireOnce(mergeMembers(targetsOf(settings), found));
  };
  try {
    const endsAt = performance.now() + settings.timeouts.discovery;
    let joined = await look(signal);
    while (inferenceWorldSize !== null && worldSizeOf(joined) !== inferenceWorldSize) {
      if (performance.now() > endsAt) throw tooFew(joined, inferenceWorldSize);
      await sleep(LOOK_MS, undefined, { signal });
      joined = await look(signal);
    }
    return {
      engines: joined.map(({ target }) => specOf(target)),
      async requireSame(until) {
        const seen = await look(until).catch((error: unknown) => {
          if (!until.aborted) throw error;
          throw new WeightcastError('WC_UPDATE_ABORTED', 'interrupted', { phase: 'discovery', cause: error });
        });
        const [before, now] = [namesOf(joined), namesOf(seen)];
        const left = [...before].filter((name) => !now.has(name));
        const came = [...now].filter((name) => !before.has(name));
        if (left.length + came.length > 0) throw changed(left, came);
      },
      [Symbol.asyncDispose]: async () => membership?.close(),
    };
  } catch (error) {
    await membership?.close();
    throw error;
  }
}

/** One of the same address and another identity is another process. */
function namesOf(members: readonly Member[]): ReadonlySet<string> {
  return new Set(
    members.map(({ target: { url }, identity }) => (identity === null ? url : `${url} (${identity})`)),
  );
}

function tooFew(members: readonly Member[], wanted: number): WeightcastError {
  const [size, engines] = [worldSizeOf(members), members.map(({ target }) => target.url).join(', ')];
  return new WeightcastError(
    'WC_DISCOVERY_FAILED',
    `${size} GPU workers are there, not the ${wanted} of the trainer's group: ${engines}`,
    { phase: 'discovery', remedy: 'Say how many each has (workers=N), or wait longer: --timeout-discovery.' },
  );
}

function changed(left: readonly string[], came: readonly string[]): WeightcastError {
  const words = [
    left.length === 0 ? '' : `${left.join(', ')} left`,
    came.length === 0 ? '' : `${came.join(', ')} came`,
  ].filter((text) => text !== '');
  return new WeightcastError(
    'WC_DISCOVERY_FAILED',
    `${words.join(' and ')} after the group of the trainer was joined, whose ranks cannot change`,
    {
      phase: 'discovery',
      remedy:
        'Nobody was paused. Restart the trainer, with the inference world size that is there now, and orchestrate; or let it write files, which come to engines that come.',
      details: { left, came },
    },
  );
}
