/** The SGLang component: `control/*` beside bare pause routes, `{"success":bool}` (contracts/dynamo.md 1.8). Updated by files; its NCCL wire is its own. */
import { basename } from 'node:path';
import { WeightcastError } from '../../errors.js';
import type { EngineAdmin, PauseMode } from '../admin.js';
import { selectDialect } from '../vllm-native/dialects.js';
import * as read from './read.js';
import { restLora } from './rest-lora.js';
import { type DynamoWorker, flushCache, workerParts } from './worker.js';

const DISK = 'control/update_weights_from_disk';
const SET_VERSION = 'control/update_weight_version';
const NO_GROUP = 'SGLang receives by a protocol of its own: use --transport filesystem.';

/** Admin operations of an SGLang worker. */
export function sglangAdmin(worker: DynamoWorker): EngineAdmin {
  const { parameters, routes, target } = worker;
  const { calls, operations, backend, notes } = workerParts(worker);
  const { capabilities } = selectDialect(parameters.vllm, target.id).dialect;
  const noGroup = (): never => {
    throw new WeightcastError('WC_ENGINE_NOT_CONFIGURED', 'it does not receive by NCCL from weightcast', {
      engine: target.id,
      remedy: NO_GROUP,
    });
  };
  /** Requests are frozen with their cache, as the last pause left them. */
  let frozen = false;
  return {
    backend,
    notes,
    version: 'sglang worker',
    capabilities: {
      ...capabilities,
      rounds: 'one-shot',
      restoresByEmptyRound: false,
      weightVersion: false,
      weightChecker: false,
      shutdownTransfer: false,
      resetSaysSuccess: false,
      isPausedLiesAfterKeep: false,
      pauseModes: ['keep', 'abort'],
      needsWeightVersion: true,
      wire: null,
      diskLoad: routes.has(DISK),
    },
    remedies: { nccl: NO_GROUP, digest: 'Use --verify auto: this worker reports no checksums.' },
    ...operations,

    isPaused: () => null,
    pause: ({ mode, clearCache }) => {
      const sent = pauseMode(mode, clearCache, target.id);
      frozen = sent === 'in_place';
      return calls.engine('pause_generation', {
        operation: 'pause',
        budget: 'pause',
        retryable: true,
        body: { mode: sent },
        read: read.done,
      });
    },
    resume: () =>
      calls.engine('continue_generation', {
        operation: 'resume',
        budget: 'pause',
        retryable: true,
        read: read.done,
      }),

    initBroadcaster: noGroup,
    shutdownBroadcaster: () => null,
    startUpdate: () => null,
    updateWeights: noGroup,
    finishUpdate: () => null,

    reloadFromDisk: (directory, { weightVersion }) =>
      routes.has(DISK)
        ? calls.engine(DISK, {
            operation: 'update_weights_from_disk',
            budget: 'load',
            retryable: true,
            // It fails where requests are frozen, after the weights have changed; elsewhere nothing else drops the prefixes of the old weights.
            body: {
              model_path: directory,
              weight_version: weightVersion ?? basename(directory),
              flush_cache: !frozen,
            },
            read: read.silently(read.done),
          })
        : null,
    resetPrefixCache: () => flushCache(calls, routes, read.done),
    weightVersion: () => null,
    setWeightVersion: (version) =>
      routes.has(SET_VERSION)
        ? calls.engine(SET_VERSION, {
            operation: 'update_weight_version',
            budget: 'probe',
            retryable: true,
            body: { new_version: version, abort_all_requests: false },
            read: read.done,
          })
        : null,
    ...restLora(calls),
  };
}

/** retract computes the frozen requests again under the new weights; in_place goes on with their old cache. */
function pauseMode(mode: PauseMode, clearCache: boolean, engine: string): 'abort' | 'retract' | 'in_place' {
  switch (mode) {
    case 'abort':
      return 'abort';
    case 'keep':
      return clearCache ? 'retract' : 'in_place';
    case 'wait':
      throw new WeightcastError('WC_CONFIG_INVALID', 'SGLang has no pause that waits for running requests', {
        engine,
        remedy: 'Use --pause-mode keep or abort.',
      });
  }
}
