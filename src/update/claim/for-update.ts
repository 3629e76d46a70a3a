import type { EngineLink } from '../../fleet/engine.js';
import { checkpointIdentity } from '../../weights/identity.js';
import type { Settings } from '../settings.js';
import { type Claim, claimEngines } from './claim.js';
import type { PushFacts } from './record.js';
import { openStateDirectory } from './state-directory.js';

export interface UpdateToClaim {
  readonly settings: Settings;
  readonly engines: readonly EngineLink[];
  /** Absolute path. */
  readonly weights: string;
  readonly version: string | null;
  readonly signal: AbortSignal;
}

/** How long a push waits for those who put engines right after another one died. */
const PATIENCE_MS = 30_000;

/** The engines, for one update; null where the session keeps no state. @throws WeightcastError WC_UPDATE_BUSY, WC_STATE_DIR */
export async function claimForUpdate(update: UpdateToClaim): Promise<Claim | null> {
  const { settings, engines, weights, version, signal } = update;
  if (settings.state === null) return null;
  return claimEngines({
    directory: await openStateDirectory(settings.state),
    engines: engines.map(({ url }) => url),
    role: 'push',
    // Before the weights are opened: written to in between, they are taken for others later, and nobody loads them.
    push: pushFacts(settings, { weights, version, identity: await checkpointIdentity(weights) }),
    patienceMs: PATIENCE_MS,
    signal,
  });
}

/** Runs `work` with the engines claimed; not at all while somebody else holds one of them, or where that can't be known. */
export async function unlessBusy(
  { settings, engines }: Pick<UpdateToClaim, 'settings' | 'engines'>,
  work: () => Promise<void>,
): Promise<void> {
  if (settings.state === null) return work();
  const claim = await openStateDirectory(settings.state)
    .then((directory) =>
      claimEngines({
        directory,
        engines: engines.map(({ url }) => url),
        role: 'push',
        push: pushFacts(settings, { weights: null, version: null }),
        patienceMs: 0,
      }),
    )
    .catch(() => null);
  if (claim === null) return;
  try {
    await work();
  } finally {
    await claim.release().catch(() => {});
  }
}

interface Weights {
  readonly weights: string | null;
  readonly version: string | null;
  /** As {@link checkpointIdentity} gives it. */
  readonly identity?: string | null;
}

/** What a successor must know of a push; of headers only the names. */
export function pushFacts(
  { fallback, recover, verify, headers, engines }: Settings,
  { weights, version, identity = null }: Weights,
): PushFacts {
  const own = engines.flatMap((spec) => (typeof spec === 'string' ? [] : Object.keys(spec.headers ?? {})));
  const headerNames = [...new Set([...Object.keys(headers), ...own])];
  const which = identity === null ? {} : { identity };
  return { weights, version, ...which, fallback, recover, verify, headerNames };
}
