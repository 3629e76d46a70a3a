/** The RL listener of one Dynamo frontend: a port of its own, which the frontend opens only with DYN_ENABLE_RL (contracts/dynamo.md §2.1). */
import type { Exchange, Reply } from '../../engines/admin.js';
import type { EngineTarget, HttpClient } from '../../engines/http.js';
import { question } from '../../engines/question.js';
import { hasCode, WeightcastError } from '../../errors.js';
import { type DynamoSnapshot, readSnapshot } from './answer.js';

export interface Frontend {
  /** As given: the base URL of the frontend, or its RL listener. */
  readonly url: string;
  /** The listener, where it is given (rl_base_url). */
  readonly rlUrl: string | null;
  /** Base URL of inference, where it is given. */
  readonly inferenceUrl: string | null;
}

export interface ListenerOptions {
  readonly http: HttpClient;
  readonly headers: Readonly<Record<string, string>>;
  readonly apiKey: string | null;
  /** Port of the listener on a frontend's host: DYN_RL_PORT. */
  readonly rlPort: number;
  /** GPU workers of engines that publish no world_size. */
  readonly workers: number | null;
}

export const DEFAULT_RL_PORT = 8001;

/** A frontend that just starts may open its second port after the first. */
const STARTING_LOOKS = 3;

const ROUTE = '/v1/rl/workers';

export const DYNAMO_REMEDY =
  'Start the frontend with DYN_ENABLE_RL=1 and DYN_NAMESPACE as its workers have it (its listener has port DYN_RL_PORT, 8001), and the workers with --enable-rl ' +
  'and a DYN_SYSTEM_PORT of their own; name a listener elsewhere as rl_base_url (--discover dynamo=URL,rl=URL), or the workers themselves as admin_base_url (--engine dynamo=URL).';

/** Finds the listener of one frontend once, and asks it. */
export class Listener {
  readonly #frontend: Frontend;
  readonly #options: ListenerOptions;
  /** Found: it has answered. */
  #target: EngineTarget | null = null;
  #isFrontend = false;
  /** Answers in a row that there is none. */
  #absences = 0;

  constructor(frontend: Frontend, options: ListenerOptions) {
    this.#frontend = { ...frontend, url: withoutV1(frontend.url) };
    this.#options = options;
    if (frontend.rlUrl !== null) {
      this.#target = this.#at(withoutRoute(frontend.rlUrl));
      this.#isFrontend = true;
    }
  }

  /** Where /v1/models and inference are; null while only the listener is known. */
  get inferenceUrl(): string | null {
    return this.#frontend.inferenceUrl ?? (this.#isFrontend ? this.#frontend.url : null);
  }

  get name(): string {
    return this.#target?.url ?? this.#frontend.url;
  }

  /** @throws WeightcastError WC_DISCOVERY_FAILED, WC_ENGINE_UNREACHABLE, WC_ENGINE_TIMEOUT, WC_ENGINE_UNAUTHORIZED, WC_ENGINE_PROTOCOL */
  async ask(signal: AbortSignal): Promise<DynamoSnapshot> {
    if (this.#target !== null) {
      const known = (await this.#askAt(this.#target, signal)) ?? this.#absent(this.#target.url, '404');
      this.#absences = 0;
      return known;
    }
    const given = this.#at(withoutRoute(this.#frontend.url));
    const direct = await this.#askAt(given, signal);
    if (direct !== null) {
      this.#target = given;
      this.#absences = 0;
      return direct;
    }
    // The main port answers 404 for the route: the listener is beside it.
    const beside = this.#at(withPort(this.#frontend.url, this.#options.rlPort));
    if (beside.url === given.url) return this.#absent(given.url, '404');
    const found = await this.#askAt(beside, signal).catch((error: unknown) => {
      if (hasCode(error, 'WC_ENGINE_UNREACHABLE')) return this.#absent(given.url, '404', beside.url, error);
      throw error;
    });
    if (found === null) return this.#absent(given.url, '404', beside.url);
    this.#target = beside;
    this.#isFrontend = true;
    this.#absences = 0;
    return found;
  }

  /** null for a 404. */
  #askAt(target: EngineTarget, signal: AbortSignal): Promise<DynamoSnapshot | null> {
    const { http, workers } = this.#options;
    const expected = { listenerHost: new URL(target.url).hostname, workers };
    return http.exchange(target, routes(target.url, expected), { signal });
  }

  #at(url: string): EngineTarget {
    const { headers, apiKey } = this.#options;
    return {
      ...{ id: url, url, backend: 'dynamo', headers, apiKey },
      ...{ workers: null, inferenceUrl: null, parameters: {} },
    };
  }

  #absent(url: string, answer: string, beside?: string, cause?: unknown): never {
    this.#absences += 1;
    const second =
      beside === undefined ? '' : `, and ${beside} ${cause === undefined ? 'too' : 'is not listening'}`;
    throw new WeightcastError(
      'WC_DISCOVERY_FAILED',
      `no RL listener of Dynamo: ${url}${ROUTE} answered ${answer}${second}; neither rl_base_url nor admin_base_url says where else, and a frontend without DYN_ENABLE_RL has none`,
      {
        engine: url,
        phase: 'discovery',
        remedy: DYNAMO_REMEDY,
        cause,
        details: { lasting: this.#absences >= STARTING_LOOKS },
      },
    );
  }
}

function routes(
  listener: string,
  expected: Parameters<typeof readSnapshot>[2],
): Exchange<DynamoSnapshot | null> {
  const ask = question('rl_workers', ROUTE, (reply) => {
    if (reply.status === 404) return null;
    if (reply.status !== 200) throw refused(reply, listener);
    return readSnapshot(reply, listener, expected);
  });
  // Whoever asks asks again.
  return { ...ask, retryable: false };
}

/** `{"error":"discovery_failed","message"}` with 500, or whatever a proxy says. */
function refused(reply: Reply, listener: string): WeightcastError {
  const unauthorized = reply.status === 401 || reply.status === 403;
  return new WeightcastError(
    unauthorized ? 'WC_ENGINE_UNAUTHORIZED' : 'WC_DISCOVERY_FAILED',
    `${listener}${ROUTE} answered ${reply.status}: ${reply.text.trim().slice(0, 500)}`,
    {
      engine: listener,
      phase: 'discovery',
      ...(unauthorized ? {} : { remedy: DYNAMO_REMEDY }),
      details: { status: reply.status, lasting: unauthorized },
    },
  );
}

/** prime-rl's base_url ends in /v1. */
function withoutV1(url: string): string {
  return url.replace(/\/v1$/, '');
}

function withoutRoute(url: string): string {
  return withoutV1(url.endsWith(ROUTE) ? url.slice(0, -ROUTE.length) : url);
}

/** Another port of the same host; the path belongs to the old one (prime-rl #2773 `_replace_url_port`). */
function withPort(text: string, port: number): string {
  const url = new URL(text);
  url.port = String(port);
  return url.origin;
}
