/** Inference calls as exchanges of the HTTP client: what to send, how much may come back, and what a refusal means. */
import type { Exchange, Reply } from '../engines/admin.js';
import type { AnswerLimits } from '../engines/answer.js';
import { serverMessage } from '../engines/vllm-native/errors.js';
import { asWeightcastError, type ErrorCode, WeightcastError } from '../errors.js';
import { dynamoChat } from './dynamo-chat.js';
import { isToken } from './read.js';
import type { Dialect, GenerateRequest, Generation, InferenceTransport, TokenRequest } from './types.js';
import { vllmGenerate } from './vllm-generate.js';

const DIALECTS: Readonly<Record<InferenceTransport, Dialect>> = {
  vllm_generate: vllmGenerate,
  dynamo_chat: dynamoChat,
};

const KiB = 1024;

/** A scored position has two entries with a decoded token each: some 150 bytes and 12 values. */
const limitsFor = (positions: number): AnswerLimits => ({
  bytes: 1024 * KiB + positions * KiB,
  values: 10_000 + positions * 32,
});

/** @throws WeightcastError WC_CONFIG_INVALID for a request that no engine would take */
export function generateExchange(
  transport: InferenceTransport,
  engine: string,
  request: GenerateRequest,
): Exchange<Generation> {
  const dialect = DIALECTS[transport];
  const salt = checked(request);
  demand(Number.isSafeInteger(request.maxTokens) && request.maxTokens > 0, 'maxTokens must be at least 1');
  const body = dialect.generateBody(request, salt);
  return exchange(transport, engine, 'generate', body, request.maxTokens, (json) =>
    dialect.readGeneration(json, request),
  );
}

/** @throws WeightcastError WC_CONFIG_INVALID */
export function scoreExchange(
  transport: InferenceTransport,
  engine: string,
  request: TokenRequest,
): Exchange<number[]> {
  const dialect = DIALECTS[transport];
  const body = dialect.scoreBody(request, checked(request));
  return exchange(transport, engine, 'score', body, request.tokens.length, (json) =>
    dialect.readScores(json, request.tokens),
  );
}

function exchange<T>(
  transport: InferenceTransport,
  engine: string,
  operation: string,
  body: object,
  positions: number,
  read: (json: unknown) => T,
): Exchange<T> {
  return {
    operation,
    method: 'POST',
    path: DIALECTS[transport].path,
    at: 'inference',
    query: {},
    body,
    // Nothing of it stays in the engine, whose answer is for nobody else.
    retryable: true,
    budget: 'score',
    limits: limitsFor(positions),
    read: (reply) => {
      if (reply.status !== 200) throw refused(reply, { transport, engine, operation });
      // vLLM 0.16 says 200 with an error in the body.
      if (hasError(reply.json)) throw refused(reply, { transport, engine, operation });
      try {
        return read(reply.json);
      } catch (error) {
        throw named(error, engine, operation);
      }
    },
  };
}

/** The salt of a request; null where the weights never change. */
function checked({ tokens, model, weightVersion }: TokenRequest): string | null {
  demand(tokens.length > 0, 'a prompt needs at least one token');
  demand(tokens.every(isToken), 'the prompt has something that is no token id');
  demand(model !== '', 'model must not be empty');
  if (weightVersion === null) return null;
  const salt = String(weightVersion);
  demand(salt !== '' && salt !== 'NaN', 'weightVersion must not be empty: null says that the weights stay');
  return salt;
}

function demand(ok: boolean, problem: string): void {
  if (!ok) throw new WeightcastError('WC_CONFIG_INVALID', problem);
}

interface Call {
  readonly transport: InferenceTransport;
  readonly engine: string;
  readonly operation: string;
}

const CLOSED: Readonly<Record<InferenceTransport, string>> = {
  vllm_generate: 'Start vLLM with --enable-scale-out (0.30 and later), which opens /inference/v1/generate.',
  dynamo_chat: "Check that the address is the frontend's, and that DYN_DISABLE_FRONTEND_NVEXT is not set.",
};

function refused(reply: Reply, { transport, engine, operation }: Call): WeightcastError {
  const { status } = reply;
  const message = serverMessage(reply) || 'no explanation';
  const closed = status === 403 || (status === 404 && /^(route )?not found/i.test(message));
  const code: ErrorCode =
    status === 401 ? 'WC_ENGINE_UNAUTHORIZED' : closed ? 'WC_ENGINE_NOT_CONFIGURED' : 'WC_ENGINE_HTTP';
  return new WeightcastError(code, `${operation}: the engine answered ${status}: ${message}`, {
    engine,
    remedy: closed ? CLOSED[transport] : undefined,
    details: { operation, status, serverMessage: message },
  });
}

function hasError(json: unknown): boolean {
  const error = (json as { error?: unknown } | null | undefined)?.error;
  return error !== undefined && error !== null;
}

function named(error: unknown, engine: string, operation: string): WeightcastError {
  const known = asWeightcastError(error, 'WC_ENGINE_PROTOCOL');
  return new WeightcastError(known.code, `${operation}: ${known.message}`, {
    engine,
    remedy: known.remedy,
    cause: known,
    details: { ...known.details, operation },
  });
}
