/** Sessions of elastic fleets whose members a test names, look by look. */
import { parseEngine } from '../../src/engines/registry.js';
import { WeightcastError } from '../../src/errors.js';
import type { MembershipSource } from '../../src/fleet/membership.js';
import { DEFAULT_STEADINESS, steady } from '../../src/fleet/steady.js';
import { connectAll } from '../../src/update/fleet-connections.js';
import { connectFleet } from '../../src/update/index.js';
import { openMembership } from '../../src/update/membership.js';
import { newcomerSync } from '../../src/update/newcomers.js';
import { FleetSession } from '../../src/update/session.js';
import { SessionPool } from '../../src/update/session-pool.js';
import { resolveSettings } from '../../src/update/settings.js';
import type { FleetOptions } from '../../src/update/types.js';

/** @param look who is there, as `--engine` takes them; throws as a resolver does. Addresses of one name share a port, which engines of one machine can't */
export async function connectFinding(
  options: Omit<FleetOptions, 'engines' | 'elastic'>,
  look: () => readonly string[],
): Promise<FleetSession> {
  const full: FleetOptions = { ...options, engines: [], elastic: ['engines.test:8000'] };
  const settings = resolveSettings(full);
  const source: MembershipSource = {
    name: 'dns engines.test:8000',
    remedy: '',
    poll: async () => {
      try {
        const members = look().map((name) => ({
          target: parseEngine(name, { backend: settings.backend }),
          identity: null,
        }));
        return { members, unusable: [] };
      } catch (cause) {
        throw new WeightcastError('WC_DISCOVERY_FAILED', String(cause), { phase: 'discovery', cause });
      }
    },
  };
  const watched = steady(source, DEFAULT_STEADINESS);
  const membership = openMembership(settings, () => [{ source: watched, watched, worldSize: null }]);
  if (membership === null) throw new Error('not elastic');
  const pool = new SessionPool(settings, membership, newcomerSync(full, connectFleet));
  return new FleetSession(settings, await connectAll(settings, membership), pool);
}
