/** What all dialects share: health, models and scores by the frontend, adapters, and which process answers. */
import { pathToFileURL } from 'node:url';
import type { EngineAdmin, Exchange } from '../admin.js';
import { stringifyBigJson } from '../big-json.js';
import type { EngineTarget } from '../http.js';
import { encodeAs } from '../json-body.js';
import { type Calls, callsOf } from './calls.js';
import { type WorkerMetrics, workerMetrics } from './metrics.js';
import type { DynamoParameters } from './parameters.js';
import * as read from './read.js';
import type { Routes } from './routes.js';

/** One worker process, as it was found. */
export interface DynamoWorker {
  readonly target: EngineTarget;
  readonly parameters: DynamoParameters;
  readonly routes: Routes;
  readonly metrics: WorkerMetrics;
  readonly notes: readonly string[];
}

export interface WorkerParts extends Pick<EngineAdmin, 'backend' | 'notes'> {
  readonly calls: Calls;
  readonly operations: Pick<
    EngineAdmin,
    | 'health'
    | 'listModels'
    | 'processStart'
    | 'runningRequests'
    | 'life'
    | 'scorePrompt'
    | 'worldSize'
    | 'checksums'
  >;
}

/** The watchdog ends the whole process: contracts/dynamo.md 0.5. */
export const WATCHDOG =
  'The worker exits when group init takes more than DYN_RL_INIT_WEIGHTS_TIMEOUT_S (30 s): restart it, end what it left behind (EngineCore, Worker, resource_tracker), and check that it reaches the master address.';

/** A worker that is let go before that says so, and lives: DYN_RL_INIT_WEIGHTS_TIMEOUT_S is 30 s unless somebody has raised it. */
export const JOIN_WITHIN_MS = 25_000;

export const LORA_REMEDY = 'Start the worker with --enable-lora and DYN_LORA_ENABLED=true.';

export function loraSource(path: string): { readonly uri: string } {
  return { uri: pathToFileURL(path).href };
}

/** Resets the prefix cache; nobody says whether running requests kept their blocks. null where the route is not there. */
export function flushCache(calls: Calls, routes: Routes, accepted: read.Reader<void>): Exchange<null> | null {
  if (!routes.has('flush_cache')) return null;
  return calls.engine('flush_cache', {
    operation: 'flush_cache',
    budget: 'pause',
    retryable: true,
    read: read.silently(accepted),
  });
}

/** Some tokens are needed to talk at all; token_data replaces them. */
const PLACEHOLDER = [{ role: 'user', content: '.' }];

export function workerParts({ target, parameters, metrics, notes }: DynamoWorker): WorkerParts {
  const calls = callsOf(target.id);
  // A restarted worker has another id: the last one seen counts.
  let instance = metrics.instanceId ?? parameters.instanceId;
  const ownMetrics = <T>(pick: (seen: WorkerMetrics) => T): Exchange<T> =>
    calls.get('/metrics', {
      operation: 'metrics',
      budget: 'probe',
      read: (reply, call) => {
        const seen = workerMetrics(reply, call);
        instance = seen.instanceId ?? instance;
        return pick(seen);
      },
    });
  return {
    backend: 'dynamo',
    notes,
    calls,
    operations: {
      health: () => calls.get('/health', { operation: 'health', budget: 'probe', read: read.healthy }),
      // The system port has no /v1/models; without a frontend nobody knows them.
      listModels: () =>
        target.inferenceUrl === null
          ? calls.get('/live', {
              operation: 'models',
              budget: 'probe',
              read: () => noModels(parameters.model),
            })
          : calls.get('/v1/models', {
              operation: 'models',
              budget: 'probe',
              at: 'inference',
              read: read.models(parameters.model),
            }),
      // Discovery says it, or the user.
      worldSize: () => null,
      checksums: () => null,
      processStart: () => ownMetrics(({ instanceId }) => identityOf(instanceId)),
      runningRequests: () => ownMetrics(({ inFlight }) => inFlight),
      life: () => ownMetrics(({ instanceId, sleep }) => ({ processStart: identityOf(instanceId), sleep })),
      scorePrompt: ({ model, tokens }) => {
        if (target.inferenceUrl === null || instance === null) return null;
        const body = {
          model,
          messages: PLACEHOLDER,
          max_completion_tokens: 1,
          temperature: 1,
          top_p: 1,
          prompt_logprobs: 0,
          nvext: {
            token_data: tokens,
            backend_instance_id: instance,
            extra_fields: ['prompt_logprobs', 'worker_id'],
          },
        };
        encodeAs(body, stringifyBigJson(body));
        return calls.post('/v1/chat/completions', {
          operation: 'score',
          budget: 'score',
          at: 'inference',
          retryable: true,
          body,
          read: read.promptScore(tokens, instance),
        });
      },
    },
  };
}

function noModels(base: string | null): ReturnType<typeof read.modelCards> {
  return base === null ? [] : read.modelCards([base], base);
}

/** Leases of one etcd differ in their last digits: a double keeps 53 bits. */
function identityOf(instance: bigint | null): number | null {
  return instance === null ? null : Number(BigInt.asUintN(53, instance));
}
