/** The pool of a session: told of every update, and kept off the engines while one runs. */
import { createHttpClient, type EngineTarget, type HttpClient } from '../engines/http.js';
import { connectEngine } from '../engines/registry.js';
import { ElasticPool, type PoolOptions } from '../fleet/elastic/pool.js';
import type { Adapter, Desired, DesiredWeights, LeftWeights, Seen } from '../fleet/elastic/state.js';
import { type EngineLink, probeEngine } from '../fleet/engine.js';
import type { Member } from '../fleet/membership.js';
import { requireModel } from '../fleet/served-model.js';
import type { AdapterReport } from './adapters.js';
import { Link } from './fleet-connections.js';
import type { Ledger } from './ledger.js';
import type { FleetMembership } from './membership.js';
import { isPassing, listsItsOwn } from './newcomers.js';
import type { Settings } from './settings.js';
import { targetsOf } from './targets.js';

export class SessionPool {
  readonly #pool: ElasticPool;
  readonly #http: HttpClient;
  #desired: Desired = { weights: null, adapters: [] };
  #started = false;

  constructor(settings: Settings, membership: FleetMembership, sync: PoolOptions['sync']) {
    this.#http = createHttpClient({ retry: { attempts: 1 } });
    this.#pool = openPool(settings, membership, { sync, http: this.#http });
  }

  /** The first who asks starts it: a single push needs none. */
  started(): ElasticPool {
    if (!this.#started) this.#pool.start();
    this.#started = true;
    return this.#pool;
  }

  hold(signal: AbortSignal): Promise<() => void> {
    return this.#pool.hold(signal);
  }

  /** Where the update has left the engines. */
  updated(ledger: Ledger, members: readonly Member[], weights: DesiredWeights): void {
    const moved = ledger.in('serving-new').length > 0 && ledger.in('serving-old').length === 0;
    const left = (id: string): LeftWeights => {
      if (ledger.is(id, 'serving-new')) return moved ? 'desired' : 'unknown';
      return ledger.isUntouched(id) ? 'kept' : 'unknown';
    };
    if (moved) this.#desired = { ...this.#desired, weights };
    const reasons = ledger.reasons();
    this.#pool.conclude(
      this.#desired,
      members.map(({ target: { id }, identity }) => ({
        ...{ id, identity },
        weights: left(id),
        quarantined: ledger.is(id, 'quarantined') ? (reasons.get(id) ?? 'quarantined by an update') : null,
      })),
    );
    if (moved) this.started();
  }

  adapterLoaded({ servedAs, replaced }: AdapterReport, members: readonly Member[], path: string): void {
    const others = this.#desired.adapters.filter(({ name }) => name !== replaced && name !== servedAs);
    const adapters: Adapter[] = [...others, { name: servedAs, path }];
    this.#desired = { ...this.#desired, adapters };
    this.#pool.concludeAdapters(
      this.#desired,
      members.map(({ target: { id }, identity }) => ({ id, identity })),
    );
    this.started();
  }

  async close(): Promise<void> {
    await this.#pool.close();
    await this.#http.close();
  }
}

/** A pool over the engines of these options. @param how `sync` null: it looks, and brings nobody anywhere */
export function openPool(
  settings: Settings,
  membership: FleetMembership | null,
  { sync, http, onChange }: Pick<PoolOptions, 'sync' | 'onChange'> & { readonly http: HttpClient },
): ElasticPool {
  const { intervalMs, absences: _, ...policy } = settings.pool;
  return new ElasticPool({
    sources: membership?.found ?? [],
    fixed: targetsOf(settings),
    probe: prober(http, settings),
    ...{ sync, isPassing, policy, intervalMs, routerUrl: settings.routerUrl, onChange },
  });
}

/** Asks engines for what tells a restart and a version; what a server is, is asked once a process. */
function prober(http: HttpClient, { timeouts, servedModel }: Settings): PoolOptions['probe'] {
  const timeoutMs = timeouts.probe;
  const known = new Map<string, { readonly link: EngineLink; processStart: number | null | undefined }>();
  return async (target: EngineTarget, { withAdapters, signal }): Promise<Seen> => {
    const key = JSON.stringify(target);
    try {
      const entry = known.get(key) ?? {
        link: new Link(http, target, await connectEngine(http, target, { signal, timeoutMs })),
        processStart: undefined,
      };
      known.set(key, entry);
      const { link } = entry;
      const facts = await probeEngine(link, { signal, timeoutMs });
      const { processStart, weightVersion, paused, sleep } = facts;
      // A frontend no longer lists the model of one that sleeps.
      if (sleep === null || sleep === 'awake') requireModel(target.id, servedModel, facts.models);
      // Another process may be another version of the server.
      if (entry.processStart !== undefined && entry.processStart !== processStart) known.delete(key);
      entry.processStart = processStart;
      const asks = withAdapters && listsItsOwn(link, target);
      const cards = asks ? await link.call(link.admin.listModels(), { signal, timeoutMs }) : null;
      const adapters = cards?.map(({ id, root }) => ({ name: id, path: root })) ?? null;
      return { processStart, weightVersion, paused, sleep, adapters };
    } catch (error) {
      known.delete(key);
      throw error;
    }
  };
}
