/** The frontend: models, chat, health. It knows nothing of pauses: a paused worker stays in the rotation (contracts/dynamo.md, Behaviour 3). */
import { randomUUID } from 'node:crypto';
import { stringifyBigJson } from '../../engines/big-json.js';
import type { Dispatch } from '../server/dispatch.js';
import type { Answer } from '../server/replies.js';
import { isObject, Refusal } from '../server/validation.js';
import { type ChatRequest, frontendError, readChat } from './chat-request.js';
import type { GenerateAnswer } from './generate.js';
import type { ReferenceDynamoWorker } from './worker.js';

export interface FrontendOptions {
  readonly namespace: string;
  readonly component: string;
  readonly model: string;
  /** Ids below it are tokens. */
  readonly vocabulary: number;
  /** Whether `nvext.backend_instance_id` decides; else they take their turns. */
  readonly routesByInstance: boolean;
  workers(): readonly ReferenceDynamoWorker[];
}

const json = (status: number, body: unknown): Answer => ({
  status,
  contentType: 'application/json',
  body: stringifyBigJson(body),
});
const UNAVAILABLE = frontendError(503, 'Service Unavailable', 'Service temporarily unavailable');

const NOT_READY =
  'is not ready to serve requests yet. The deployment may still be starting up or is not fully provisioned. Please retry shortly.';

export function frontend(options: FrontendOptions): Dispatch {
  const rotation = { next: 0 };
  return async (request, signal) => {
    const { method, path } = request;
    switch (`${method} ${path}`) {
      case 'GET /live':
        return json(200, { status: 'live', message: 'Service is live' });
      case 'GET /health':
        return json(200, health(options));
      case 'GET /v1/models':
        return json(200, { object: 'list', data: models(await known(options), options.model) });
      case 'POST /v1/chat/completions':
        return chat(request.text, signal, options, rotation);
      default:
        return frontendError(404, 'Not Found', `Route not found: ${method} ${path}`);
    }
  };
}

/** 200 also without any worker. */
function health({ namespace, component, workers }: FrontendOptions): unknown {
  const found = workers();
  const endpoint = (name: string) => `dyn://${namespace}.${component}.${name}`;
  return {
    status: 'healthy',
    endpoints: found.length === 0 ? [] : [endpoint('generate'), endpoint('rl')],
    instances: found.map(({ instanceId, engine }) => ({
      component,
      endpoint: 'generate',
      namespace,
      instance_id: instanceId,
      transport: {
        tcp: `127.0.0.1:${engine.port}/${instanceId.toString(16)}/${namespace}/${component}/generate`,
      },
    })),
  };
}

/** Workers, and what they say of themselves; null of one that is gone. */
async function known({ workers }: FrontendOptions) {
  return Promise.all(
    workers().map(async (worker) => ({ worker, said: await worker.discovered().catch(() => null) })),
  );
}

type Known = Awaited<ReturnType<typeof known>>;

/** The base model while a worker is awake, and the adapters of those. */
function models(known: Known, model: string): unknown[] {
  const awake = known.filter(({ said }) => said !== null && !said.asleep);
  const names = new Set([...awake.map(() => model), ...awake.flatMap(({ said }) => said?.loras ?? [])]);
  const created = Math.floor(Date.now() / 1000);
  return [...names].map((id) => ({ id, object: 'model', created, owned_by: 'nvidia', context_window: 512 }));
}

async function chat(
  text: string,
  signal: AbortSignal,
  options: FrontendOptions,
  rotation: { next: number },
): Promise<Answer> {
  let request: ChatRequest;
  try {
    request = readChat(text, options.vocabulary);
  } catch (error) {
    if (error instanceof Refusal) return error.answer;
    throw error;
  }
  const workers = await known(options);
  const served = models(workers, options.model);
  if (!served.some((card) => isObject(card) && card.id === request.model)) {
    if (request.model === options.model && workers.some(({ said }) => said?.asleep === true)) {
      return frontendError(503, 'Service Unavailable', `Model \`${request.model}\` ${NOT_READY}`);
    }
    // Without any model the body is empty.
    if (served.length === 0) return { status: 404, contentType: null, body: null };
    return frontendError(404, 'Not Found', 'Model not found');
  }
  const routable = workers.filter(({ said }) => said?.asleep !== true).map(({ worker }) => worker);
  const worker = choose(request, routable, options, rotation);
  if (worker === undefined) return UNAVAILABLE;
  const id = randomUUID();
  const cancel = () => worker.cancel(id);
  signal.addEventListener('abort', cancel, { once: true });
  try {
    const { model, prompt, maxTokens, promptLogprobs, cacheSalt } = request;
    const answer = await worker.generate({ id, model, prompt, maxTokens, promptLogprobs, cacheSalt });
    return json(200, completion(request, worker, answer));
  } catch {
    return UNAVAILABLE;
  } finally {
    signal.removeEventListener('abort', cancel);
  }
}

function choose(
  { instance }: ChatRequest,
  found: readonly ReferenceDynamoWorker[],
  { routesByInstance }: FrontendOptions,
  rotation: { next: number },
): ReferenceDynamoWorker | undefined {
  if (instance !== null && routesByInstance) return found.find(({ instanceId }) => instanceId === instance);
  rotation.next += 1;
  return found[rotation.next % Math.max(1, found.length)];
}

function completion(request: ChatRequest, worker: ReferenceDynamoWorker, answer: GenerateAnswer): unknown {
  const scores = withoutText(answer.promptLogprobs);
  const asked = (field: string) => request.extraFields.includes(field);
  const nvext = {
    ...(asked('worker_id')
      ? { worker_id: { prefill_worker_id: worker.instanceId, decode_worker_id: worker.instanceId } }
      : {}),
    ...(asked('completion_token_ids')
      ? { completion_token_ids: answer.tokens.map(({ token }) => token) }
      : {}),
    ...(asked('prompt_logprobs') && scores !== null ? { prompt_logprobs: scores } : {}),
  };
  const words = answer.tokens.map(({ token }) => `w${token}`);
  return {
    id: `chatcmpl-${randomUUID()}`,
    choices: [
      {
        index: 0,
        message: { content: words.join(' '), refusal: null, role: 'assistant' },
        // A request that was cut looks finished.
        finish_reason: answer.cut ? 'stop' : 'length',
        logprobs: request.logprobs
          ? {
              content: answer.tokens.map(({ token, logprob }) => ({
                token: `w${token}`,
                logprob,
                token_id: token,
                bytes: null,
                top_logprobs: [],
              })),
              refusal: null,
            }
          : null,
      },
    ],
    created: Math.floor(Date.now() / 1000),
    model: request.model,
    object: 'chat.completion',
    usage: {
      prompt_tokens: request.prompt.length,
      completion_tokens: answer.tokens.length,
      total_tokens: request.prompt.length + answer.tokens.length,
      prompt_tokens_details: { cached_tokens: 0 },
    },
    // At the top whenever it was asked for, rounded to 32 bits.
    ...(scores === null ? {} : { prompt_logprobs: rounded(scores) }),
    ...(Object.keys(nvext).length === 0 ? {} : { nvext }),
  };
}

type Positions = readonly (Readonly<Record<string, { logprob: number; rank: number }>> | null)[];

/** Dynamo's entries have no decoded_token. */
function withoutText(scores: unknown): Positions | null {
  if (!Array.isArray(scores)) return null;
  return mapEntries(scores as Positions, ({ logprob, rank }) => ({ logprob, rank }));
}

const rounded = (scores: Positions): Positions =>
  mapEntries(scores, ({ logprob, rank }) => ({ logprob: Math.fround(logprob), rank }));

function mapEntries(
  scores: Positions,
  map: (entry: { logprob: number; rank: number }) => { logprob: number; rank: number },
): Positions {
  return scores.map((position) =>
    position === null
      ? null
      : Object.fromEntries(Object.entries(position).map(([token, entry]) => [token, map(entry)])),
  );
}
