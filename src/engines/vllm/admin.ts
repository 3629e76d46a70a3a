/** The admin operations of one vLLM server, built from its dialect. Each is one exchange; nothing is sent here. */
import type {
  Budget,
  EngineAdmin,
  Exchange,
  GroupSeat,
  PromptScore,
  TransferBackend,
  WeightsUpdate,
} from '../admin.js';
import { finishBody, initBody, startBody, updateBody } from '../vllm-native/bodies.js';
import type { Dialect } from '../vllm-native/dialects.js';
import type { FailedCall } from '../vllm-native/errors.js';
import * as read from '../vllm-native/read.js';

export interface VllmIdentity {
  /** For errors. */
  readonly engine: string;
  readonly version: string;
  readonly notes: readonly string[];
  /** As the user says. */
  readonly transferBackend?: TransferBackend | undefined;
}

interface Call<T> {
  readonly operation: string;
  readonly path: string;
  readonly read: read.Reader<T>;
  readonly budget: Budget;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: object;
  /** Only for a call that may safely be sent twice. */
  readonly retryable?: boolean;
  readonly route?: FailedCall['route'];
}

/** What every vLLM server can answer. */
export interface VllmAdmin extends EngineAdmin {
  initBroadcaster(seat: Omit<GroupSeat, 'timeoutMs' | 'fleet'>): Exchange<void>;
  updateWeights(update: Pick<WeightsUpdate, 'tensors' | 'updates' | 'packing'>): Exchange<void>;
  worldSize(): Exchange<number>;
  isPaused(): Exchange<boolean>;
  reloadFromDisk(directory: string): Exchange<number>;
  resetPrefixCache(options: { readonly resetRunningRequests: boolean }): Exchange<boolean | null>;
  processStart(): Exchange<number | null>;
  runningRequests(): Exchange<number | null>;
  scorePrompt(options: { readonly model: string; readonly tokens: readonly number[] }): Exchange<PromptScore>;
}

/** Admin operations of a vLLM server that speaks `dialect`. */
export function vllmAdmin(identity: VllmIdentity, dialect: Dialect): VllmAdmin {
  const { capabilities, sparse } = dialect;
  const { transferBackend } = identity;
  const exchange = <T>(method: 'GET' | 'POST', call: Call<T>): Exchange<T> => {
    const failed = {
      engine: identity.engine,
      operation: call.operation,
      route: call.route ?? 'admin',
    } as const;
    return {
      operation: call.operation,
      method,
      path: call.path,
      query: call.query ?? {},
      body: call.body ?? null,
      retryable: call.retryable ?? false,
      budget: call.budget,
      read: (reply) => call.read(reply, failed),
    };
  };
  const get = <T>(call: Call<T>) => exchange('GET', { retryable: true, ...call });
  const post = <T>(call: Call<T>) => exchange('POST', call);
  const threeStep = capabilities.rounds === 'three-step';

  return {
    backend: 'vllm',
    version: identity.version,
    notes: identity.notes,
    capabilities: { ...capabilities, sparse, ...(transferBackend === undefined ? {} : { transferBackend }) },
    remedies: {
      nccl: 'Start it with VLLM_SERVER_DEV_MODE=1, or use --transport filesystem.',
      digest:
        'Use --verify auto (a digest where the engine can, else a fingerprint), or vLLM 0.32 and later.',
    },

    health: () =>
      get({ operation: 'health', path: '/health', budget: 'probe', route: 'open', read: read.succeeded }),
    listModels: () =>
      get({ operation: 'models', path: '/v1/models', budget: 'probe', route: 'open', read: read.models }),
    worldSize: () =>
      get({ operation: 'get_world_size', path: '/get_world_size', budget: 'probe', read: read.worldSize }),
    isPaused: () =>
      get({ operation: 'is_paused', path: '/is_paused', budget: 'probe', read: read.flag('is_paused') }),
    pause: ({ mode, clearCache }) =>
      post({
        operation: 'pause',
        path: '/pause',
        // A JSON body is ignored, and the defaults (abort, clear) are not what a caller may mean.
        query: { mode, clear_cache: String(clearCache) },
        budget: 'pause',
        retryable: true,
        read: read.says('status', 'paused'),
      }),
    resume: () =>
      post({
        operation: 'resume',
        path: '/resume',
        budget: 'pause',
        retryable: true,
        read: read.says('status', 'resumed'),
      }),

    initBroadcaster: (seat) =>
      post({
        operation: 'init_weight_transfer_engine',
        path: '/init_weight_transfer_engine',
        body: initBody(dialect, seat),
        budget: 'init',
        read: read.message,
      }),
    shutdownBroadcaster: () =>
      capabilities.shutdownTransfer
        ? post({
            operation: 'shutdown_weight_transfer_engine',
            path: '/shutdown_weight_transfer_engine',
            budget: 'init',
            retryable: true,
            read: read.message,
          })
        : null,
    startUpdate: () =>
      threeStep
        ? post({
            operation: 'start_weight_update',
            path: '/start_weight_update',
            body: startBody(dialect),
            budget: 'update',
            read: read.message,
          })
        : null,
    updateWeights: (update) =>
      post({
        operation: 'update_weights',
        path: '/update_weights',
        body: updateBody(dialect, update),
        budget: 'update',
        read: read.message,
      }),
    finishUpdate: ({ weightVersion }) =>
      threeStep
        ? post({
            operation: 'finish_weight_update',
            path: '/finish_weight_update',
            body: finishBody(dialect, weightVersion),
            budget: 'update',
            read: read.message,
          })
        : null,

    reloadFromDisk: (directory) =>
      post({
        operation: 'reload_weights',
        path: '/collective_rpc',
        body: { method: 'reload_weights', kwargs: { weights_path: directory } },
        budget: 'load',
        retryable: true,
        read: read.workerResults,
      }),
    resetPrefixCache: ({ resetRunningRequests }) =>
      post({
        operation: 'reset_prefix_cache',
        path: '/reset_prefix_cache',
        query: resetRunningRequests ? { reset_running_requests: 'true' } : {},
        budget: 'pause',
        retryable: true,
        read: capabilities.resetSaysSuccess ? read.flag('success') : read.resetDone,
      }),
    weightVersion: () =>
      capabilities.weightVersion
        ? get({
            operation: 'weight_info',
            path: '/weight_info',
            budget: 'probe',
            read: read.text('weight_version'),
          })
        : null,
    setWeightVersion: (version) =>
      capabilities.weightVersion
        ? post({
            operation: 'update_weight_version',
            path: '/update_weight_version',
            body: { new_version: version },
            budget: 'probe',
            retryable: true,
            read: read.says('success', true),
          })
        : null,
    checksums: () =>
      capabilities.weightChecker
        ? post({
            operation: 'weight_checker',
            path: '/weight_checker',
            // The same route's 'reset' zeroes the weights.
            body: { action: 'checksum' },
            budget: 'checksum',
            retryable: true,
            read: read.checksums,
          })
        : null,

    transferBackend: () => ({
      ...get({
        operation: 'server_info',
        path: '/server_info',
        query: { config_format: 'json' },
        budget: 'probe',
        read: read.transferBackend,
      }),
      // Where it fails (neither pip nor uv beside the server), it fails again.
      retryable: false,
    }),
    runningRequests: () =>
      get({
        operation: 'metrics',
        path: '/metrics',
        budget: 'probe',
        route: 'open',
        read: read.runningRequests,
      }),
    processStart: () =>
      get({
        operation: 'metrics',
        path: '/metrics',
        budget: 'probe',
        route: 'open',
        read: read.processStart,
      }),
    scorePrompt: ({ model, tokens }) =>
      post({
        operation: 'score',
        path: '/v1/completions',
        body: { model, prompt: tokens, max_tokens: 1, temperature: 0, prompt_logprobs: 0 },
        budget: 'score',
        retryable: true,
        route: 'open',
        read: read.promptScore(tokens),
      }),

    // A second load of a name is refused, so a lost answer must not look like a failure: sent once.
    loadLoraAdapter: ({ name, path }) =>
      post({
        operation: 'load_lora_adapter',
        path: '/v1/load_lora_adapter',
        body: { lora_name: name, lora_path: path },
        budget: 'load',
        route: 'lora',
        read: read.succeeded,
      }),
    unloadLoraAdapter: ({ name }) =>
      post({
        operation: 'unload_lora_adapter',
        path: '/v1/unload_lora_adapter',
        body: { lora_name: name },
        budget: 'load',
        route: 'lora',
        read: read.succeeded,
      }),
  };
}
