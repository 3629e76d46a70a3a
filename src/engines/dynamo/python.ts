/** The Python worker (`python -m dynamo.vllm`): bare routes, `{"status":"ok"}`, and vLLM's worker methods by `engine_rpc` (contracts/dynamo.md 1.4 to 1.6). */
import { basename } from 'node:path';
import type { Capabilities, EngineAdmin, WeightsUpdate } from '../admin.js';
import { initBody, startBody, updateBody } from '../vllm-native/bodies.js';
import { type Dialect, selectDialect } from '../vllm-native/dialects.js';
import { initBroadcasterBody, updateFromPathBody } from './prime-rl-rpc.js';
import * as read from './read.js';
import {
  type DynamoWorker,
  flushCache,
  JOIN_WITHIN_MS,
  LORA_REMEDY,
  loraSource,
  WATCHDOG,
  workerParts,
} from './worker.js';

const TRANSFER = ['init_weights_update_group', 'update_weights_from_distributed'] as const;
const DISK = 'update_weights_from_disk';

const REMEDIES = {
  nccl: 'Start the worker with --enable-rl, or use --transport filesystem.',
  digest: 'Use --verify auto: a Dynamo worker reports no checksums.',
};

/** One body for all workers: it is megabytes where there are many tensors, and is encoded before the pause. */
const updateBodies = new WeakMap<WeightsUpdate, Map<string, object>>();

/** Admin operations of a Python worker. */
export function pythonAdmin(worker: DynamoWorker): EngineAdmin {
  const { parameters, routes, target } = worker;
  const { calls, operations, backend, notes } = workerParts(worker);
  const { dialect } = selectDialect(parameters.vllm, target.id);
  const primeRl = parameters.rpc === 'prime-rl';
  const capabilities = capabilitiesOf(worker, dialect);
  const threeStep = capabilities.rounds === 'three-step';
  const ok = read.says('status', 'ok');
  const done = read.says('status', 'success', 'ok');
  const receive = (operation: string, body: object) =>
    calls.engine(TRANSFER[1], { operation, budget: 'update', body, read: ok });

  return {
    backend,
    notes,
    version: 'python worker',
    capabilities,
    remedies: REMEDIES,
    ...operations,

    isPaused: () =>
      routes.has(DISK)
        ? calls.engine(DISK, {
            operation: 'is_paused',
            budget: 'probe',
            retryable: true,
            read: read.pausedByRefusal,
          })
        : null,
    pause: ({ mode, clearCache }) =>
      calls.engine('pause_generation', {
        operation: 'pause',
        budget: 'pause',
        retryable: true,
        body: { mode, clear_cache: clearCache },
        read: ok,
      }),
    resume: () =>
      calls.engine('resume_generation', { operation: 'resume', budget: 'pause', retryable: true, read: ok }),

    initBroadcaster: (seat) =>
      calls.engine(TRANSFER[0], {
        operation: 'init_weights_update_group',
        budget: 'init',
        body: primeRl
          ? initBroadcasterBody(seat)
          : { engine_rpc: 'init_weight_transfer_engine', ...initBody(dialect, seat) },
        read: ok,
        ifDropped: WATCHDOG,
      }),
    // Neither vLLM 0.31 nor prime-rl's extension has a method for it.
    shutdownBroadcaster: () => null,
    startUpdate: () =>
      threeStep
        ? receive('start_weight_update', { engine_rpc: 'start_weight_update', ...startBody(dialect) })
        : null,
    updateWeights: (update) => receive('update_weights', updateWeightsBody(update, dialect, primeRl)),
    finishUpdate: ({ weightVersion }) =>
      threeStep
        ? receive('finish_weight_update', { engine_rpc: 'finish_weight_update', ...tagOf(weightVersion) })
        : null,

    reloadFromDisk: (directory, { weightVersion }) =>
      routes.has(DISK)
        ? calls.engine(DISK, {
            operation: DISK,
            budget: 'load',
            retryable: true,
            body: {
              model_path: directory,
              ...tagOf(weightVersion ?? basename(directory)),
              engine_rpc: 'reload_weights',
            },
            read: read.silently(ok),
          })
        : null,
    resetPrefixCache: () => flushCache(calls, routes, ok),
    weightVersion: () =>
      capabilities.weightVersion
        ? calls.engine('get_weight_version', {
            operation: 'get_weight_version',
            budget: 'probe',
            retryable: true,
            read: read.versionTag('version'),
          })
        : null,
    setWeightVersion: (version) =>
      routes.has('set_weight_version')
        ? calls.engine('set_weight_version', {
            operation: 'set_weight_version',
            budget: 'probe',
            retryable: true,
            body: { weight_version: version },
            read: ok,
          })
        : null,

    // A name that is loaded already is a success without effect, so a lost answer may be asked for again.
    loadLoraAdapter: ({ name, path }) =>
      calls.engine('load_lora', {
        operation: 'load_lora',
        budget: 'load',
        retryable: true,
        body: { lora_name: name, source: loraSource(path) },
        read: done,
        ifMissing: LORA_REMEDY,
      }),
    unloadLoraAdapter: ({ name }) =>
      calls.engine('unload_lora', {
        operation: 'unload_lora',
        budget: 'load',
        body: { lora_name: name },
        read: done,
        ifMissing: LORA_REMEDY,
      }),
  };
}

/** An omitted tag leaves the old one stored, though the answer says 'unknown': contracts/dynamo.md, Corrections. */
function tagOf(weightVersion: string | null): { readonly weight_version?: string } {
  return weightVersion === null ? {} : { weight_version: weightVersion };
}

function updateWeightsBody(update: WeightsUpdate, dialect: Dialect, primeRl: boolean): object {
  const tag = tagOf(update.weightVersion ?? basename(update.directory));
  if (primeRl) return updateFromPathBody(update.directory, tag);
  const form = dialect.capabilities.packedIn + dialect.checkpointFormatIn;
  const made = updateBodies.get(update) ?? new Map<string, object>();
  updateBodies.set(update, made);
  const body = made.get(form) ?? { engine_rpc: 'update_weights', ...updateBody(dialect, update), ...tag };
  made.set(form, body);
  return body;
}

function capabilitiesOf({ routes, parameters }: DynamoWorker, dialect: Dialect): Capabilities {
  const primeRl = parameters.rpc === 'prime-rl';
  const receives = routes.missing(TRANSFER).length === 0;
  const native = dialect.capabilities;
  return {
    ...native,
    rounds: primeRl ? 'one-shot' : native.rounds,
    restoresByEmptyRound: !primeRl && native.restoresByEmptyRound,
    weightVersion: routes.has('get_weight_version'),
    weightChecker: false,
    shutdownTransfer: false,
    resetSaysSuccess: false,
    // The pause is a flag of the worker, whatever the engine below it says.
    isPausedLiesAfterKeep: false,
    // prime-rl's worker says ok when its last broadcasts are queued; vLLM's waits for the device.
    updateAnswersEarly: primeRl || native.updateAnswersEarly,
    needsWeightVersion: true,
    wire: !receives ? null : primeRl ? 'prime-rl' : 'vllm',
    joinWithinMs: JOIN_WITHIN_MS,
    diskLoad: routes.has(DISK),
  };
}
