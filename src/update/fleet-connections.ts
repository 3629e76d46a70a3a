/** The engines of a session: connected once, and again when one comes back as another process. */
import type { EngineAdmin } from '../engines/admin.js';
import { createHttpClient, type EngineTarget, type HttpClient } from '../engines/http.js';
import { connectEngine } from '../engines/registry.js';
import { asWeightcastError, WeightcastError } from '../errors.js';
import { type EngineLink, onAll } from '../fleet/engine.js';
import type { Member } from '../fleet/membership.js';
import { mergeMembers, requireOnce } from '../fleet/merge.js';
import type { FleetMembership } from './membership.js';
import type { Settings } from './settings.js';
import { specOf, targetsOf } from './targets.js';

export interface FleetConnections {
  readonly engines: readonly EngineLink[];
  /** Reads version and routes of one engine again; its link changes in place. */
  reconnect(engine: EngineLink, signal: AbortSignal): Promise<void>;
  /** Looks who belongs to the fleet now, and connects to those who are new: for the next update. @throws what {@link connectAll} throws */
  refresh(signal: AbortSignal): Promise<Refreshed>;
  /** The same engines, with what tells one process from the next. */
  readonly members: readonly Member[];
  /** The engines as options, for those who connect by themselves. */
  readonly specs: Settings['engines'];
  close(): Promise<void>;
}

export interface Refreshed {
  /** Engines of which nothing that was remembered is true any more: they have left, or another process is there. */
  readonly gone: readonly string[];
  readonly notes: readonly string[];
}

/** A link whose admin operations can be replaced. */
export class Link implements EngineLink {
  readonly target: EngineTarget;
  readonly #http: HttpClient;
  admin: EngineAdmin;

  constructor(http: HttpClient, target: EngineTarget, admin: EngineAdmin) {
    this.#http = http;
    this.target = target;
    this.admin = admin;
  }

  get id(): string {
    return this.target.id;
  }

  get url(): string {
    return this.target.url;
  }

  get backend(): string {
    return this.admin.backend;
  }

  get declaredWorkers(): number | null {
    return this.target.workers;
  }

  call: EngineLink['call'] = (exchange, options = {}) =>
    this.#http.exchange(this.target, exchange, { signal: options.signal, timeoutMs: options.timeoutMs });
}

/**
 * Connects to those that are listed, and to those that are found.
 *
 * @throws WeightcastError of the first engine that could not be connected, WC_CONFIG_INVALID, WC_DISCOVERY_FAILED
 */
export async function connectAll(
  settings: Settings,
  membership: FleetMembership | null = null,
): Promise<FleetConnections> {
  const fleet = new Connections(settings, membership);
  try {
    await fleet.refresh(AbortSignal.timeout(MAX_CONNECT_MS));
    return fleet;
  } catch (error) {
    await fleet.close();
    throw error;
  }
}

/** Beyond every deadline of its own. */
const MAX_CONNECT_MS = 2 ** 31 - 1;

class Connections implements FleetConnections {
  readonly #settings: Settings;
  readonly #membership: FleetMembership | null;
  readonly #http = createHttpClient();
  /** For a first look at those who are found: an address without its pod is not worth a second try, the next update looks again. */
  readonly #once = createHttpClient({ retry: { attempts: 1 } });
  #links: readonly Link[] = [];
  /** In the order of the links. */
  members: readonly Member[] = [];

  constructor(settings: Settings, membership: FleetMembership | null) {
    this.#settings = settings;
    this.#membership = membership;
  }

  get engines(): readonly EngineLink[] {
    return this.#links;
  }

  get specs(): Settings['engines'] {
    return this.#membership === null
      ? this.#settings.engines
      : this.#links.map(({ target }) => specOf(target));
  }

  async refresh(signal: AbortSignal): Promise<Refreshed> {
    if (this.#membership === null && this.#links.length > 0) return { gone: [], notes: [] };
    const listed = targetsOf(this.#settings);
    const found = (await this.#membership?.members(signal)) ?? [];
    const isListed = new Set(listed.map(({ id }) => id));
    const members = requireOnce(mergeMembers(listed, found));
    // What is found under an id may be another process than before.
    const before = new Map(this.members.map((member) => [member.target.id, JSON.stringify(member)]));
    const same = new Set(
      members.filter((m) => before.get(m.target.id) === JSON.stringify(m)).map(({ target }) => target.id),
    );
    const kept = new Map(
      this.#links.filter(({ id }) => same.has(id)).map((link) => [link.id, link] as const),
    );
    const { done, failed } = await onAll(
      members.map(({ target }) => target),
      async (target) => {
        const isFound = !isListed.has(target.id);
        const link = kept.get(target.id) ?? (await this.#connect(target, isFound, signal));
        if (isFound && kept.has(target.id)) await this.#knock(link, signal);
        return link;
      },
    );
    const notes = [...(this.#membership?.notes ?? [])];
    for (const [id, error] of failed) {
      // Of a name's addresses some are pods that are gone, or not up yet: they serve nobody.
      if (isListed.has(id) || done.size === 0 || !isNobody(error)) {
        throw asWeightcastError(error, 'WC_ENGINE_UNREACHABLE', { engine: id, phase: 'preflight' });
      }
      notes.push(
        `${id} is left out, nobody listens there: it has to be brought to this version before it serves`,
      );
    }
    const gone = this.#links.map(({ id }) => id).filter((id) => !kept.has(id) || !done.has(id));
    this.members = members.filter(({ target }) => done.has(target.id));
    this.#links = this.members.flatMap(({ target }) => done.get(target.id) ?? []);
    return { gone, notes };
  }

  async #connect(target: EngineTarget, isFound: boolean, signal: AbortSignal): Promise<Link> {
    const admin = await connectEngine(isFound ? this.#once : this.#http, target, {
      ...this.#options,
      signal,
    });
    return new Link(this.#http, target, admin);
  }

  /** A source may name a pod for a while after it has left. @throws only where nobody listens */
  async #knock({ target, admin }: Link, signal: AbortSignal): Promise<void> {
    const options = { signal, timeoutMs: this.#settings.timeouts.probe };
    await this.#once.exchange(target, admin.health(), options).catch((error: unknown) => {
      if (isNobody(error)) throw error;
    });
  }

  get #options() {
    return { timeoutMs: this.#settings.timeouts.probe, transport: this.#settings.transport };
  }

  async reconnect(engine: EngineLink, signal: AbortSignal): Promise<void> {
    const link = this.#links.find(({ id }) => id === engine.id);
    if (link !== undefined) {
      link.admin = await connectEngine(this.#http, link.target, { ...this.#options, signal });
    }
  }

  async close(): Promise<void> {
    await this.#membership?.close();
    await this.#once.close();
    await this.#http.close();
  }
}

/** The request certainly never reached a server. */
function isNobody(error: unknown): boolean {
  return (
    error instanceof WeightcastError && error.code === 'WC_ENGINE_UNREACHABLE' && error.details.sent === false
  );
}

/** Engines that answered, and why the others did not. */
export interface ReachableEngines {
  readonly engines: readonly EngineLink[];
  readonly failed: ReadonlyMap<string, unknown>;
  close(): Promise<void>;
}

/** Connects to those that answer; why the others did not, by id. @throws WeightcastError WC_CONFIG_INVALID */
export async function connectReachable(settings: Settings): Promise<ReachableEngines> {
  const targets = targetsOf(settings);
  const http = createHttpClient();
  const options = { timeoutMs: settings.timeouts.probe, transport: settings.transport };
  const { done, failed } = await onAll(targets, async (target) => {
    return new Link(http, target, await connectEngine(http, target, options));
  });
  const links = targets.map((target) => done.get(target.id)).filter((link) => link !== undefined);
  return { engines: links, failed, close: () => http.close() };
}
