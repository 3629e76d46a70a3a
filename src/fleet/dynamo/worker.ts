/** One worker of `GET /v1/rl/workers`, read and judged (contracts/dynamo.md §2.1, and its first section on 1.6.1). */
import { stringifyBigJson } from '../../engines/big-json.js';
import { isRecord } from '../../engines/is-record.js';
import { hygiene } from './system-url.js';

/** A worker that can be updated. */
export interface DynamoWorker {
  /** 'namespace/component/instance id': its own for as long as the process lives. */
  readonly identity: string;
  /** Origin of its system status server. */
  readonly systemUrl: string;
  readonly worldSize: number;
  readonly model: string | null;
  readonly routes: readonly string[];
}

export interface UnusableWorker {
  readonly identity: string;
  readonly why: string;
  /** It does not answer its own frontend: it is most likely gone, and the lease outlives it. */
  readonly dead: boolean;
}

export type Judged =
  | { readonly kind: 'usable'; readonly worker: DynamoWorker }
  | { readonly kind: 'unusable'; readonly worker: UnusableWorker }
  /** Not an answer of this protocol. */
  | { readonly kind: 'invalid'; readonly why: string };

export interface Expectations {
  /** Host name of the listener: a worker elsewhere is not on loopback. */
  readonly listenerHost: string;
  /** GPU workers of those that publish no `world_size`. */
  readonly workers: number | null;
}

const MAX_TEXT = 1024;
const MAX_ROUTES = 1024;
const MAX_WORLD = 65_536;
const LARGEST_U64 = 2n ** 64n - 1n;

/** Numeric order of the ids, so that it is the same in every answer and under every base. */
export function byIdentity(a: { readonly identity: string }, b: { readonly identity: string }): number {
  const [aHead, aId] = splitIdentity(a.identity);
  const [bHead, bId] = splitIdentity(b.identity);
  if (aHead !== bHead) return aHead < bHead ? -1 : 1;
  return aId === bId ? 0 : aId < bId ? -1 : 1;
}

function splitIdentity(identity: string): [string, bigint] {
  const slash = identity.lastIndexOf('/');
  return [identity.slice(0, slash), BigInt(identity.slice(slash + 1))];
}

/** @param value as parseBigJson gives it */
export function readWorker(value: unknown, expected: Expectations): Judged {
  if (!isRecord(value)) return invalid('a worker is no object');
  const id = instanceId(value.instance_id);
  const { namespace, component } = value;
  if (id === null || !isText(namespace) || !isText(component)) {
    return invalid('a worker has no namespace, component and instance_id');
  }
  const identity = `${namespace}/${component}/${id}`;
  const unusable = (why: string, dead = false): Judged => ({
    kind: 'unusable',
    worker: { identity, why, dead },
  });

  const { error, system_url: url, model, routes } = value;
  if (error !== undefined && error !== null) {
    const said = typeof error === 'string' ? error : stringifyBigJson(error);
    return unusable(said.slice(0, MAX_TEXT), true);
  }
  if (!Array.isArray(routes) || routes.length > MAX_ROUTES || !routes.every(isText)) {
    return invalid(`${identity}: routes is no list of names`);
  }
  if (routes.length === 0) return unusable('it lists no routes: start it with --enable-rl');
  if (url === undefined || url === null || url === '') {
    return unusable('it has no system_url: its DYN_SYSTEM_PORT is not set, or another process has that port');
  }
  if (!isText(url)) return invalid(`${identity}: system_url is no text`);
  const problem = hygiene(url, expected.listenerHost);
  if (problem !== null) return unusable(`its system_url ${problem}`);
  const worldSize = value.world_size ?? expected.workers;
  if (worldSize === null) {
    return unusable('it publishes no world_size: say how many GPU workers such engines have, workers=N');
  }
  if (!isWorldSize(worldSize)) return invalid(`${identity}: world_size is no number of workers`);
  if (model !== undefined && model !== null && !isText(model))
    return invalid(`${identity}: model is no text`);
  return {
    kind: 'usable',
    worker: {
      identity,
      systemUrl: new URL(url).origin,
      worldSize,
      model: model ?? null,
      routes: [...new Set(routes)].sort(),
    },
  };
}

function instanceId(value: unknown): bigint | null {
  if (typeof value !== 'bigint' && !(typeof value === 'number' && Number.isSafeInteger(value))) return null;
  const id = BigInt(value);
  return id >= 0n && id <= LARGEST_U64 ? id : null;
}

function isWorldSize(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 1 && value <= MAX_WORLD;
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && value.length <= MAX_TEXT;
}

function invalid(why: string): Judged {
  return { kind: 'invalid', why };
}
