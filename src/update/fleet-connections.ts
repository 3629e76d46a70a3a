/** The engines of a session: connected once, and again when one comes back as another process. */
import type { EngineAdmin } from '../engines/admin.js';
import { createHttpClient, type EngineTarget, type HttpClient } from '../engines/http.js';
import { connectEngine, parseEngine } from '../engines/registry.js';
import { asWeightcastError, WeightcastError } from '../errors.js';
import { type EngineLink, onAll } from '../fleet/engine.js';
import type { Settings } from './settings.js';
import type { EngineSpec } from './types.js';

export interface FleetConnections {
  readonly engines: readonly EngineLink[];
  /** Reads version and routes of one engine again; its link changes in place. */
  reconnect(engine: EngineLink, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/** A link whose admin operations can be replaced. */
class Link implements EngineLink {
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
    return this.target.backend;
  }

  get declaredWorkers(): number | null {
    return this.target.workers;
  }

  call: EngineLink['call'] = (exchange, options = {}) =>
    this.#http.exchange(this.target, exchange, { signal: options.signal, timeoutMs: options.timeoutMs });
}

/** @throws WeightcastError of the first engine that could not be connected, WC_CONFIG_INVALID */
export async function connectAll(settings: Settings): Promise<FleetConnections> {
  const fleet = await connectReachable(settings);
  const [first] = fleet.failed;
  if (first === undefined) return fleet;
  await fleet.close();
  throw asWeightcastError(first[1], 'WC_ENGINE_UNREACHABLE', { engine: first[0], phase: 'preflight' });
}

/** Connects to those that answer; why the others did not, by id. @throws WeightcastError WC_CONFIG_INVALID */
export async function connectReachable(
  settings: Settings,
): Promise<FleetConnections & { readonly failed: ReadonlyMap<string, unknown> }> {
  const targets = targetsOf(settings);
  const http = createHttpClient();
  const options = { timeoutMs: settings.timeouts.probe, transport: settings.transport };
  const { done, failed } = await onAll(targets, async (target) => {
    return new Link(http, target, await connectEngine(http, target, options));
  });
  const links = targets.map((target) => done.get(target.id)).filter((link) => link !== undefined);
  return {
    engines: links,
    failed,
    reconnect: async (engine, reconnectSignal) => {
      const link = links.find(({ id }) => id === engine.id);
      if (link !== undefined)
        link.admin = await connectEngine(http, link.target, { ...options, signal: reconnectSignal });
    },
    close: () => http.close(),
  };
}

/** Where the engines of a session are. @throws WeightcastError WC_CONFIG_INVALID */
export function targetsOf(settings: Settings): EngineTarget[] {
  const targets = settings.engines.map((spec) => targetOf(spec, settings));
  const twice = targets.find(
    (target, index) => targets.findIndex((other) => other.id === target.id) !== index,
  );
  if (twice !== undefined)
    throw new WeightcastError('WC_CONFIG_INVALID', `engine ${twice.id} is listed twice`);
  return targets;
}

function targetOf(spec: string | EngineSpec, settings: Settings): EngineTarget {
  const { url, ...own } = typeof spec === 'string' ? { url: spec } : spec;
  return parseEngine(url, {
    apiKey: settings.apiKey ?? undefined,
    ...own,
    headers: { ...settings.headers, ...own.headers },
  });
}
