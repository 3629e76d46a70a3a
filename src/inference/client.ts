/** A client that generates and scores on one engine, by token ids. */
import type { Exchange } from '../engines/admin.js';
import { createHttpClient, type EngineTarget, type HttpClient } from '../engines/http.js';
import { type EngineAccess, parseEngine } from '../engines/registry.js';
import { WeightcastError } from '../errors.js';
import { generateExchange, scoreExchange } from './exchanges.js';
import type { GenerateRequest, Generation, InferenceTransport, TokenRequest } from './types.js';

export interface InferenceClientOptions extends EngineAccess {
  /** Default: by the backend, 'dynamo_chat' for dynamo and 'vllm_generate' for the others. */
  readonly transport?: InferenceTransport;
  /** Header name → field of a request's `state`: {'X-Session-ID': 'trajectory_id'} keeps a rollout on one replica. */
  readonly headersFromState?: Readonly<Record<string, string>>;
  /** Requests at the same time; further ones wait for a connection, and their deadline runs. Default 256. */
  readonly connections?: number;
  /** Tries of a request, where the deadline leaves time for them. Default 10. */
  readonly attempts?: number;
}

export interface CallOptions {
  readonly signal?: AbortSignal;
  /** Milliseconds in all. Default: 1,200,000 to generate, 300,000 to score. */
  readonly timeoutMs?: number;
}

const GENERATE_MS = 1_200_000;
const SCORE_MS = 300_000;

const TRANSPORTS: ReadonlyMap<string, InferenceTransport> = new Map([
  ['vllm', 'vllm_generate'],
  ['prime-rl', 'vllm_generate'],
  ['dynamo', 'dynamo_chat'],
]);

/** Inference traffic of one engine (or of the router before several), over connections of its own. */
export class InferenceClient {
  readonly transport: InferenceTransport;
  readonly #target: EngineTarget;
  readonly #headersFromState: Readonly<Record<string, string>>;
  readonly #http: HttpClient;

  /**
   * @example
   * await using client = new InferenceClient('vllm=http://10.0.0.5:8000');
   * const { tokens } = await client.generate({ model: 'policy', tokens: [1, 2, 3], maxTokens: 16, weightVersion: 17 });
   *
   * @param engine 'vllm=http://host:8000', 'dynamo=http://host:8000/v1' …; a /v1 at the end is left out
   * @throws WeightcastError WC_CONFIG_INVALID
   */
  constructor(engine: string, options: InferenceClientOptions = {}) {
    const target = parseEngine(engine, options);
    const transport = options.transport ?? TRANSPORTS.get(target.backend);
    if (transport === undefined) {
      throw new WeightcastError('WC_CONFIG_INVALID', `transport: none is known for ${target.backend}`, {
        remedy: "Pass transport: 'vllm_generate' or 'dynamo_chat'.",
      });
    }
    this.transport = transport;
    const url = withoutV1(target.inferenceUrl ?? target.url);
    this.#target = { ...target, url, id: url, inferenceUrl: null };
    this.#headersFromState = options.headersFromState ?? {};
    this.#http = createHttpClient({
      connections: options.connections ?? 256,
      // Some half a minute in all: vLLM 0.33 refuses new requests while an update has it paused.
      retry: { attempts: options.attempts ?? 10, minDelayMs: 250, maxDelayMs: 5_000 },
    });
  }

  /** Where it sends to. */
  get url(): string {
    return this.#target.url;
  }

  /**
   * Generates from token ids. Repeated after 5xx answers and lost connections until the deadline: nobody else has seen a token of it.
   *
   * @throws WeightcastError WC_ENGINE_UNREACHABLE, WC_ENGINE_TIMEOUT, WC_ENGINE_HTTP, WC_ENGINE_NOT_CONFIGURED (the route is closed), WC_ENGINE_UNAUTHORIZED,
   * WC_ENGINE_PROTOCOL, WC_CONFIG_INVALID, WC_UPDATE_ABORTED, WC_NATIVE_CLOSED
   */
  generate(request: GenerateRequest, options: CallOptions = {}): Promise<Generation> {
    return this.#call(generateExchange(this.transport, this.url, request), request, options, GENERATE_MS);
  }

  /**
   * The log-probability of each token given those before it, without generating (but for one token); 0 for the first.
   *
   * @throws WeightcastError as {@link generate}; a position without its token is WC_ENGINE_PROTOCOL, never a 0
   */
  score(request: TokenRequest, options: CallOptions = {}): Promise<number[]> {
    return this.#call(scoreExchange(this.transport, this.url, request), request, options, SCORE_MS);
  }

  #call<T>(
    exchange: Exchange<T>,
    { state }: TokenRequest,
    { signal, timeoutMs }: CallOptions,
    defaultMs: number,
  ): Promise<T> {
    const target = state === undefined ? this.#target : this.#addressed(state);
    return this.#http.exchange(target, exchange, { signal, timeoutMs: timeoutMs ?? defaultMs });
  }

  #addressed(state: Readonly<Record<string, unknown>>): EngineTarget {
    const headers: Record<string, string> = { ...this.#target.headers };
    for (const [name, key] of Object.entries(this.#headersFromState)) {
      const value = Object.hasOwn(state, key) ? state[key] : undefined;
      if (typeof value === 'string' || typeof value === 'number') headers[name] = String(value);
    }
    return { ...this.#target, headers };
  }

  /** Ends every request in flight. Safe to call twice. */
  close(): Promise<void> {
    return this.#http.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function withoutV1(url: string): string {
  return url.endsWith('/v1') ? url.slice(0, -'/v1'.length) : url;
}
