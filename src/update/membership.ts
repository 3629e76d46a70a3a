/** The members of a fleet that is found: by the frontends of Dynamo, by DNS. A session asks before each update. */
import { createHttpClient } from '../engines/http.js';
import type { Member, Membership } from '../fleet/membership.js';
import { mergeMembers, requireOnce } from '../fleet/merge.js';
import { settled } from '../fleet/settle.js';
import { type Found, type SourceOptions, sourcesOf } from '../fleet/specs.js';
import type { Settings } from './settings.js';
import { specOf, targetsOf } from './targets.js';

/** A listener asks each worker in turn and waits up to 30 s for one that does not answer (contracts/dynamo.md §2.1). */
const REQUEST_MS = 40_000;

export interface FleetMembership {
  /** For looks between updates. */
  readonly found: readonly Pick<Found, 'source'>[];
  /**
   * Everybody who is found now, seen twice.
   *
   * @throws WeightcastError WC_DISCOVERY_FAILED, WC_ENGINE_UNAUTHORIZED, WC_ENGINE_PROTOCOL
   */
  members(signal: AbortSignal): Promise<readonly Member[]>;
  /** Things that were found and can't be used, at the last look. */
  readonly notes: readonly string[];
  close(): Promise<void>;
}

/** null for a fleet that is listed. @param sources who is asked; default: those that the settings name. @throws WeightcastError WC_CONFIG_INVALID */
export function openMembership(
  settings: Settings,
  sources: (options: SourceOptions) => readonly Found[] = sourcesOf,
): FleetMembership | null {
  const { discover, elastic, headers, apiKey, backend, timeouts, pool } = settings;
  if (discover.length === 0 && elastic.length === 0) return null;
  // Whoever waits for a fleet asks again by itself.
  const http = createHttpClient({
    budgets: { probe: { attemptMs: REQUEST_MS, totalMs: REQUEST_MS } },
    retry: { attempts: 1 },
  });
  const { absences } = pool;
  const steadiness = absences === undefined ? {} : { absences };
  const found = sources({ discover, elastic, headers, apiKey, backend, http, steadiness });
  const known = new Map<Found, Membership>();
  return {
    found: found.map(({ watched }) => ({ source: watched })),
    async members(signal) {
      const all = await Promise.all(
        found.map(async (each) => {
          const options = { worldSize: each.worldSize, timeoutMs: timeouts.discovery, signal };
          const membership = await settled(each.source, { ...options, known: known.get(each) });
          known.set(each, membership);
          return membership.members;
        }),
      );
      return all.flat();
    },
    get notes() {
      return [...known.values()].flatMap(({ unusable }) =>
        unusable.map(({ what, why }) => `${what} was found and is not used: ${why}`),
      );
    },
    close: () => http.close(),
  };
}

/** The same settings with everybody listed who is found now: for those who look once. @throws what `members` throws */
export async function listedSettings(settings: Settings, signal: AbortSignal): Promise<Settings> {
  const membership = openMembership(settings);
  if (membership === null) return settings;
  try {
    const members = await membership.members(signal);
    const all = requireOnce(mergeMembers(targetsOf(settings), members));
    return { ...settings, engines: all.map(({ target }) => specOf(target)), discover: [], elastic: [] };
  } finally {
    await membership.close();
  }
}
