/** The native vLLM sidecar (`python -m dynamo.vllm.sidecar`): `control/*` and `update/*`, with vLLM's own bodies (contracts/dynamo.md 1.7). */
import type { EngineAdmin } from '../admin.js';
import { finishBody, initBody, startBody, updateBody } from '../vllm-native/bodies.js';
import { selectDialect } from '../vllm-native/dialects.js';
import * as read from './read.js';
import { restLora } from './rest-lora.js';
import { type DynamoWorker, WATCHDOG, workerParts } from './worker.js';

const TRANSFER = [
  'update/init_weight_transfer_engine',
  'update/start_weight_update',
  'update/update_weights',
  'update/finish_weight_update',
] as const;
const [INIT, START, UPDATE, FINISH] = TRANSFER;
const SET_VERSION = 'update/update_weight_version';

const REMEDIES = {
  nccl: `Start its engine with --weight-transfer-config '{"backend":"nccl"}' and the sidecar with --enable-rl.`,
  disk: "A sidecar loads nothing from a directory: drive its vLLM's own HTTP server as vllm=URL, or use --transport nccl.",
  digest: 'Use --verify auto: a sidecar reports no checksums.',
};

/** Admin operations of a sidecar. It loads nothing from a directory, and its vLLM has an HTTP server of its own. */
export function sidecarAdmin(worker: DynamoWorker): EngineAdmin {
  const { parameters, routes, target } = worker;
  const { calls, operations, backend, notes } = workerParts(worker);
  const { dialect } = selectDialect(parameters.vllm, target.id);
  const receive = (route: string, body: object) =>
    calls.engine(route, { operation: route, budget: 'update', body, read: read.message });

  return {
    backend,
    notes,
    version: 'sidecar',
    capabilities: {
      ...dialect.capabilities,
      rounds: 'three-step',
      weightVersion: routes.has('control/get_weight_version'),
      weightChecker: false,
      shutdownTransfer: false,
      resetSaysSuccess: false,
      isPausedLiesAfterKeep: false,
      needsWeightVersion: true,
      wire: routes.missing(TRANSFER).length === 0 ? 'vllm' : null,
      diskLoad: false,
    },
    remedies: REMEDIES,
    ...operations,

    isPaused: () =>
      routes.has('control/is_paused')
        ? calls.engine('control/is_paused', {
            operation: 'is_paused',
            budget: 'probe',
            retryable: true,
            read: read.flag('is_paused'),
          })
        : null,
    pause: ({ mode, clearCache }) =>
      calls.engine('control/pause_generation', {
        operation: 'pause',
        budget: 'pause',
        retryable: true,
        // Its own default is abort.
        body: { mode, clear_cache: clearCache },
        read: read.says('status', 'paused'),
      }),
    resume: () =>
      calls.engine('control/resume_generation', {
        operation: 'resume',
        budget: 'pause',
        retryable: true,
        read: read.says('status', 'resumed'),
      }),

    initBroadcaster: (seat) =>
      calls.engine(INIT, {
        operation: INIT,
        budget: 'init',
        body: initBody(dialect, seat),
        read: read.message,
        ifDropped: WATCHDOG,
      }),
    shutdownBroadcaster: () => null,
    startUpdate: () => receive(START, startBody(dialect)),
    updateWeights: (update) => receive(UPDATE, updateBody(dialect, update)),
    finishUpdate: ({ weightVersion }) => receive(FINISH, finishBody(dialect, weightVersion)),

    reloadFromDisk: () => null,
    // Only a pause clears the cache.
    resetPrefixCache: () => null,
    weightVersion: () =>
      routes.has('control/get_weight_version')
        ? calls.engine('control/get_weight_version', {
            operation: 'get_weight_version',
            budget: 'probe',
            retryable: true,
            read: read.versionTag('weight_version'),
          })
        : null,
    setWeightVersion: (version) =>
      routes.has(SET_VERSION)
        ? calls.engine(SET_VERSION, {
            operation: 'update_weight_version',
            budget: 'probe',
            retryable: true,
            body: { new_version: version },
            read: read.says('success', true),
          })
        : null,
    ...restLora(calls),
  };
}
