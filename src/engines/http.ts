/**
 * The one HTTP client for admin calls: deadlines, retry, credentials and bounds live here and in no dialect. Inference traffic
 * never shares its connections.
 */
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { Pool } from 'undici';
import { WeightcastError } from '../errors.js';
import type { Budget, Exchange, Reply } from './admin.js';
import { ANSWER_LIMITS, Answer, type AnswerLimits } from './answer.js';
import {
  backoffMs,
  DEFAULT_BUDGETS,
  DEFAULT_RETRY,
  type Deadline,
  deadlineOf,
  type RetryPolicy,
} from './budgets.js';
import { encoded } from './json-body.js';
import { onAbort } from './on-abort.js';
import { roundTrip } from './round-trip.js';
import { type CallSite, transportError } from './transport-error.js';

/** Where an engine is and how to authenticate. */
export interface EngineTarget {
  /** As the user names it: its URL without a trailing slash. */
  readonly id: string;
  readonly backend: string;
  /** http(s) URL without a trailing slash; a path (a proxy's prefix) is kept in front of every route. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Sent as a bearer token; null sends none. */
  readonly apiKey: string | null;
  /** GPU workers, as configured or discovered; null asks the engine. */
  readonly workers: number | null;
  /** Base URL of /v1/models and of inference, where another server than `url` has them; null: the same server. */
  readonly inferenceUrl: string | null;
  /** What only its backend understands. */
  readonly parameters: Readonly<Record<string, string>>;
  /** What discovery lists of the engine, where it was discovered: `/engine/<route>` of a Dynamo worker. Absent: its backend finds out. */
  readonly routes?: readonly string[] | undefined;
}

export interface HttpClientOptions {
  readonly budgets?: Partial<Readonly<Record<Budget, Deadline>>>;
  readonly retry?: Partial<RetryPolicy>;
  /** Largest accepted answer in bytes; default: 1 to 64 MiB, by the kind of call. */
  readonly maxBodyBytes?: number;
  /** Milliseconds to open a connection; default 5,000. */
  readonly connectTimeoutMs?: number;
  /** Largest number of connections to one server; default 32. */
  readonly connections?: number;
}

export interface ExchangeOptions {
  readonly signal?: AbortSignal | undefined;
  /** Total milliseconds; default: the exchange's budget. */
  readonly timeoutMs?: number | undefined;
}

export interface HttpClient {
  /**
   * Runs one exchange to its deadline. A retryable one is repeated after transport errors and 5xx answers; any other is sent once.
   *
   * @throws WeightcastError WC_ENGINE_UNREACHABLE, WC_ENGINE_TIMEOUT, WC_ENGINE_PROTOCOL, WC_NATIVE_CLOSED, WC_UPDATE_ABORTED, and
   * whatever the dialect makes of the answer. `details.sent` is false when the engine certainly never got the request.
   */
  exchange<T>(engine: EngineTarget, exchange: Exchange<T>, options?: ExchangeOptions): Promise<T>;
  /** Drops every connection; safe to call twice. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A client with its own connection pool for each engine. */
export function createHttpClient(options: HttpClientOptions = {}): HttpClient {
  return new PooledClient(options);
}

class PooledClient implements HttpClient {
  /** By origin and connect timeout. */
  readonly #pools = new Map<string, { readonly origin: string; readonly pool: Pool }>();
  /** Pools that end with the requests that they carry. */
  readonly #leaving = new Set<Pool>();
  /** Origins that have answered in this turn of the event loop. */
  readonly #answered = new Set<string>();
  readonly #connectTimeoutMs: number;
  readonly #connections: number;
  readonly #budgets: Readonly<Record<Budget, Deadline>>;
  readonly #retry: RetryPolicy;
  readonly #maxBodyBytes: number | null;
  #closing: Promise<void> | null = null;

  constructor(options: HttpClientOptions) {
    this.#budgets = { ...DEFAULT_BUDGETS, ...options.budgets };
    this.#retry = { ...DEFAULT_RETRY, ...options.retry };
    this.#maxBodyBytes = options.maxBodyBytes ?? null;
    this.#connectTimeoutMs = options.connectTimeoutMs ?? 5_000;
    this.#connections = options.connections ?? 32;
  }

  #poolOf(origin: string, connectMs: number): Pool {
    const key = `${connectMs} ${origin}`;
    const known = this.#pools.get(key);
    if (known !== undefined) return known.pool;
    const pool = new Pool(origin, {
      // One request a connection: a /health never waits behind a long /update_weights.
      pipelining: 1,
      connections: this.#connections,
      // uvicorn drops idle connections after 5 s. A request on a connection that is just being dropped fails, and one that may
      // be sent only once cannot be repeated: so idle connections are ours to drop, well before that.
      keepAliveTimeout: 2_000,
      keepAliveMaxTimeout: 2_000,
      // The deadlines are ours too.
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: { timeout: connectMs },
    });
    this.#pools.set(key, { origin, pool });
    return pool;
  }

  /** uvicorn drops a connection just after an unhandled exception's 500, and does not say so: nothing may be sent on it any more. */
  #dropConnections(origin: string): void {
    for (const [key, { origin: own, pool }] of this.#pools) {
      if (own !== origin) continue;
      this.#pools.delete(key);
      this.#leaving.add(pool);
      void pool.close().then(
        () => this.#leaving.delete(pool),
        () => this.#leaving.delete(pool),
      );
    }
  }

  /** undici takes a connection for busy until the turn after its answer: what is asked before that gets a new one. */
  #hasAnswered(origin: string): void {
    if (this.#answered.size === 0) setImmediate(() => this.#answered.clear());
    this.#answered.add(origin);
  }

  async exchange<T>(engine: EngineTarget, exchange: Exchange<T>, options: ExchangeOptions = {}): Promise<T> {
    const place = placeOf(engine, exchange);
    const path = pathOf(exchange);
    const site = { engine: engine.id, url: place.base + path, operation: exchange.operation };
    if (this.#closing !== null) throw transportError({ code: 'UND_ERR_CLOSED' }, site);
    const { patience, retryable } = exchange;
    const deadline = deadlineOf(patience ?? this.#budgets[exchange.budget], options.timeoutMs);
    const attempts = retryable ? (patience?.attempts ?? this.#retry.attempts) : 1;
    const endsAt = performance.now() + deadline.totalMs;
    let sent = false;
    for (let attempt = 1; ; attempt += 1) {
      const leftMs = endsAt - performance.now();
      try {
        const reply = await this.#send(
          { place, path, exchange, site },
          {
            signal: options.signal,
            timeoutMs: Math.max(1, Math.min(deadline.attemptMs, leftMs)),
            waitedMs: deadline.totalMs - leftMs,
          },
        );
        return exchange.read(reply);
      } catch (error) {
        const delayMs = backoffMs(this.#retry, attempt);
        sent ||= !(error instanceof WeightcastError) || error.details.sent !== false;
        if (attempt >= attempts || !isTransient(error, exchange) || performance.now() + delayMs >= endsAt) {
          throw withAttempts(explained(error, exchange), attempt, sent);
        }
        await pause(delayMs, options.signal, site);
      }
    }
  }

  async #send({ place, path, exchange, site }: Outgoing, limits: Limits): Promise<Reply> {
    const { signal, timeoutMs, waitedMs } = limits;
    const { origin } = place;
    if (this.#answered.has(origin)) await nextTurn();
    if (signal?.aborted) throw interrupted(signal, site, false);
    const kind = exchange.limits ?? ANSWER_LIMITS[exchange.budget];
    const bounds = { ...kind, bytes: this.#maxBodyBytes ?? kind.bytes };
    const answer = new Answer(bounds);
    const trip = roundTrip(
      this.#poolOf(origin, exchange.patience?.connectMs ?? this.#connectTimeoutMs),
      {
        origin,
        path: place.prefix + path,
        method: exchange.method,
        headers: exchange.method === 'POST' ? place.postHeaders : place.headers,
        body: exchange.body === null ? null : encoded(exchange.body),
      },
      (chunk) => {
        const problem = answer.add(chunk);
        return problem === null ? null : unacceptable(problem, bounds, site);
      },
    );
    const release =
      signal === undefined ? null : onAbort(signal, () => trip.abort(interrupted(signal, site, true)));
    const timer = setTimeout(() => trip.abort(timedOut(site, timeoutMs, waitedMs)), timeoutMs);
    try {
      const head = await trip.answer;
      if (head.status >= 500) this.#dropConnections(origin);
      else this.#hasAnswered(origin);
      return { ...head, ...answer.read() };
    } catch (error) {
      throw transportError(error, site);
    } finally {
      clearTimeout(timer);
      release?.();
    }
  }

  close(): Promise<void> {
    this.#closing ??= Promise.all(
      [...[...this.#pools.values()].map(({ pool }) => pool), ...this.#leaving].map((pool) => pool.destroy()),
    ).then(() => undefined);
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

interface Outgoing {
  readonly place: Place;
  /** With its query. */
  readonly path: string;
  readonly exchange: Exchange<unknown>;
  readonly site: CallSite;
}

interface Limits {
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number;
  /** By the tries before. */
  readonly waitedMs: number;
}

interface Place {
  /** For a user to read. */
  readonly base: string;
  readonly origin: string;
  /** In front of every route. */
  readonly prefix: string;
  readonly headers: Record<string, string>;
  /** vLLM 0.32 and later take a body without a content type for no body at all. */
  readonly postHeaders: Record<string, string>;
}

/** By base URL: a fleet has few, and each is asked again and again. */
const places = new WeakMap<EngineTarget, Map<string, Place>>();

function placeOf(engine: EngineTarget, exchange: Exchange<unknown>): Place {
  const base = baseUrl(engine, exchange);
  let known = places.get(engine);
  if (known === undefined) {
    known = new Map();
    places.set(engine, known);
  }
  let place = known.get(base);
  if (place === undefined) {
    const { origin, pathname } = new URL(base);
    place = {
      base: base.replace(/\/+$/, ''),
      origin,
      prefix: pathname.replace(/\/+$/, ''),
      headers: requestHeaders(engine),
      postHeaders: { ...requestHeaders(engine), 'content-type': 'application/json' },
    };
    known.set(base, place);
  }
  return place;
}

function baseUrl(engine: EngineTarget, exchange: Exchange<unknown>): string {
  return exchange.at === 'inference' ? (engine.inferenceUrl ?? engine.url) : engine.url;
}

/** Most queries need no encoding, and it takes longer than the rest of a request's making. */
const PLAIN = /^[\w.-]*$/;

function pathOf({ path, query }: Exchange<unknown>): string {
  let search = '';
  for (const [name, value] of Object.entries(query)) {
    if (!PLAIN.test(name) || !PLAIN.test(value)) return `${path}?${new URLSearchParams(query)}`;
    search += `${search === '' ? '?' : '&'}${name}=${value}`;
  }
  return path + search;
}

function requestHeaders(engine: EngineTarget): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(engine.headers)) headers[name.toLowerCase()] = value;
  if (engine.apiKey !== null) headers.authorization = `Bearer ${engine.apiKey}`;
  return headers;
}

function unacceptable(problem: string, limits: AnswerLimits, site: CallSite): WeightcastError {
  return new WeightcastError('WC_ENGINE_PROTOCOL', `${site.operation}: the answer ${problem}`, {
    engine: site.engine,
    details: { operation: site.operation, url: site.url, limits },
  });
}

/** A dialect marks an answer that would only repeat with `transient: false`. */
function isTransient(error: unknown, { alsoRetried }: Exchange<unknown>): boolean {
  if (!(error instanceof WeightcastError)) return false;
  if (error.code === 'WC_ENGINE_UNREACHABLE' || error.code === 'WC_ENGINE_TIMEOUT') return true;
  const { status, transient } = error.details;
  if (typeof status === 'number' && alsoRetried?.includes(status)) return true;
  return (
    error.code === 'WC_ENGINE_HTTP' && typeof status === 'number' && status >= 500 && transient !== false
  );
}

async function pause(delayMs: number, signal: AbortSignal | undefined, site: CallSite): Promise<void> {
  try {
    await sleep(delayMs, undefined, signal === undefined ? {} : { signal });
  } catch {
    throw interrupted(signal, site, true);
  }
}

function timedOut(site: CallSite, timeoutMs: number, waitedMs: number): WeightcastError {
  // In all: the last of several tries may have only milliseconds left.
  const seconds = Math.round((waitedMs + timeoutMs) / 100) / 10;
  return new WeightcastError(
    'WC_ENGINE_TIMEOUT',
    `${site.operation}: no answer from ${site.url} within ${seconds} s`,
    { engine: site.engine, details: { operation: site.operation, url: site.url, timeoutMs, sent: true } },
  );
}

function interrupted(signal: AbortSignal | undefined, site: CallSite, sent: boolean): WeightcastError {
  const reason: unknown = signal?.reason;
  if (reason instanceof WeightcastError) return reason;
  return new WeightcastError('WC_UPDATE_ABORTED', `${site.operation} was interrupted`, {
    engine: site.engine,
    cause: reason,
    details: { operation: site.operation, url: site.url, sent },
  });
}

/** The engine had the request, and hung up. */
function explained(error: unknown, { ifDropped }: Exchange<unknown>): unknown {
  if (ifDropped === undefined || !(error instanceof WeightcastError)) return error;
  if (error.code !== 'WC_ENGINE_UNREACHABLE' || error.details.sent === false) return error;
  return new WeightcastError(error.code, error.message, {
    engine: error.engine ?? undefined,
    phase: error.phase ?? undefined,
    remedy: ifDropped,
    cause: error.cause,
    details: error.details,
  });
}

/** @param sent whether any of the tries may have reached the engine */
function withAttempts(error: unknown, attempts: number, sent: boolean): unknown {
  if (attempts === 1 || !(error instanceof WeightcastError)) return error;
  return new WeightcastError(error.code, `${error.message} (tried ${attempts} times)`, {
    engine: error.engine ?? undefined,
    phase: error.phase ?? undefined,
    remedy: error.remedy,
    cause: error.cause,
    details: { ...error.details, attempts, ...(error.details.sent === undefined ? {} : { sent }) },
  });
}
