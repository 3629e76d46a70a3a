/** What a client asks of an engine that serves, and what it gets. */

/** How token ids reach the engine. */
export type InferenceTransport = 'vllm_generate' | 'dynamo_chat';

/** Which weights answer: the version of a policy that is being trained, or null for a model that never changes. */
export type WeightVersion = string | number | null;

export interface TokenRequest {
  readonly model: string;
  /** Token ids of the prompt. */
  readonly tokens: readonly number[];
  /**
   * The policy's weight version, which salts the prefix cache: blocks that older weights computed are never reused. null only for a model whose weights
   * stay as they are (a frozen teacher).
   */
  readonly weightVersion: WeightVersion;
  /** The rollout's state, for the headers that are taken from it. */
  readonly state?: Readonly<Record<string, unknown>>;
}

export interface GenerateRequest extends TokenRequest {
  readonly maxTokens: number;
  /** Default 1. */
  readonly temperature?: number;
  /** Default 1. */
  readonly topP?: number;
  /** Log-probabilities of the generated tokens. Default false. */
  readonly logprobs?: boolean;
  /** Further sampling parameters, by the server's own names: beside max_tokens in vLLM's sampling_params, at the top of Dynamo's body. */
  readonly sampling?: Readonly<Record<string, unknown>>;
}

export interface Generation {
  readonly tokens: readonly number[];
  /** Of each generated token; null when they were not asked for. */
  readonly logprobs: readonly number[] | null;
  /**
   * 'stop', 'length', 'abort', …; Dynamo says 'stop' also of a request that a pause by abort cut short, so its partial text can't be told from a
   * finished one.
   */
  readonly finishReason: string | null;
  /** Which tokens came from which weight version, where the server says (vLLM from 0.32). */
  readonly weightVersions: readonly VersionSpan[] | null;
}

/** Tokens start (included) to end (excluded) were generated under this version. */
export interface VersionSpan {
  readonly version: string;
  readonly start: number;
  readonly end: number;
}

/** One way to ask: bodies and readers, nothing is sent here. */
export interface Dialect {
  readonly path: string;
  generateBody(request: GenerateRequest, salt: string | null): object;
  /** A body that generates one token and reports on the prompt's. */
  scoreBody(request: TokenRequest, salt: string | null): object;
  /** @throws WeightcastError WC_ENGINE_PROTOCOL when the answer is not what was asked for */
  readGeneration(json: unknown, request: GenerateRequest): Generation;
  /** @throws WeightcastError WC_ENGINE_PROTOCOL */
  readScores(json: unknown, tokens: readonly number[]): number[];
}
