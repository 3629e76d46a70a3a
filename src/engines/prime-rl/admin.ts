/**
 * The admin operations of one prime-rl server: its own routes beside vLLM's open ones (contracts/prime-rl.md 1). Each is one exchange; nothing is sent here.
 */
import { randomUUID } from 'node:crypto';
import type { Budget, Capabilities, EngineAdmin, Exchange, Patience } from '../admin.js';
import { question } from '../question.js';
import * as vllm from '../vllm-native/read.js';
import type { Generation } from './generation.js';
import * as patience from './patience.js';
import { healthy, joined, NO_ROUTE, type Reader, says, succeeded, unloaded } from './read.js';
import { initBody } from './seat.js';

export interface PrimeRlIdentity {
  /** For errors. */
  readonly engine: string;
  readonly generation: Generation;
  /** How the server was started to receive: it has one way for life, and does not say which. */
  readonly broadcast: 'nccl' | 'filesystem';
  readonly notes: readonly string[];
}

const WRONG_BROADCAST: Readonly<Record<PrimeRlIdentity['broadcast'], string>> = {
  nccl: 'See the log of the server. One that was started with the filesystem weight broadcast has nobody to join: say broadcast=filesystem behind its address, or use --transport filesystem.',
  filesystem:
    'Check that the directory is there on its machine too. One that was started with the NCCL weight broadcast loads no directories: say broadcast=nccl behind its address, or use --transport nccl.',
};

interface Call {
  readonly operation: string;
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: object;
  readonly patience: Patience;
  /** Only for a call that may safely be sent twice. */
  readonly retryable: boolean;
  readonly alsoRetried?: readonly number[];
  readonly remedy?: string;
}

/** Admin operations of a prime-rl server of this generation. */
export function primeRlAdmin({ engine, generation, broadcast, notes }: PrimeRlIdentity): EngineAdmin {
  const post = <T>(
    budget: Budget,
    { query = {}, body, remedy, ...call }: Call,
    read: Reader<T>,
  ): Exchange<T> => {
    const failed = { engine, operation: call.operation, remedy: remedy ?? null };
    return {
      ...call,
      method: 'POST',
      query,
      body: body ?? null,
      budget,
      read: (reply) => read(reply, failed),
    };
  };
  const probe = <T>(operation: string, path: string, read: Reader<T>): Exchange<T> =>
    question(operation, path, (reply) => read(reply, { engine, operation, remedy: null }));
  /** A route of vLLM's own that development mode does not hide. */
  const open =
    <T>(read: vllm.Reader<T>): Reader<T> =>
    (reply, { operation }) =>
      read(reply, { engine, operation, route: 'open' });
  const health = (operation: string) => probe(operation, '/health', healthy);

  return {
    backend: 'prime-rl',
    version: generation.version,
    notes,
    capabilities: capabilitiesOf(generation, broadcast),
    remedies: {
      nccl: generation.joins
        ? 'Use --transport filesystem, or say broadcast=nccl behind its address.'
        : NO_ROUTE,
      disk: 'Use --transport nccl; or start it with the filesystem weight broadcast, and say broadcast=filesystem behind its address.',
      digest:
        'Use --verify auto: a prime-rl server has no weight checker, so its engines are held against one another.',
    },

    health: () => health('health'),
    listModels: () => ({ ...probe('models', '/v1/models', open(vllm.models)), at: 'inference' }),
    worldSize: () => null,
    isPaused: () => null,
    // prime-rl's handler always freezes and keeps the cache, and reads none of this; see connect.ts for the server that would.
    pause: () =>
      generation.pauses
        ? post(
            'pause',
            {
              operation: 'pause',
              path: '/pause',
              query: { mode: 'keep', clear_cache: 'false' },
              patience: patience.ADMIN,
              retryable: true,
            },
            says('paused'),
          )
        : health('pause'),
    resume: () =>
      generation.pauses
        ? post(
            'pause',
            { operation: 'resume', path: '/resume', patience: patience.ADMIN, retryable: true },
            says('resumed'),
          )
        : health('resume'),

    initBroadcaster: (seat) =>
      post(
        'init',
        {
          operation: 'init_broadcaster',
          path: '/init_broadcaster',
          body: initBody(generation, seat, engine),
          patience: patience.JOIN,
          retryable: false,
          remedy: WRONG_BROADCAST.nccl,
        },
        joined,
      ),
    shutdownBroadcaster: () => null,
    startUpdate: () => null,
    updateWeights: ({ directory }) =>
      post(
        'update',
        {
          operation: 'update_weights',
          path: '/update_weights',
          // Nothing is read from it; it must only be there.
          body: { weight_dir: directory },
          patience: patience.RECEIVE,
          retryable: false,
        },
        says('ok'),
      ),
    finishUpdate: () => null,

    reloadFromDisk: (directory) =>
      broadcast === 'nccl'
        ? null
        : post(
            'load',
            {
              operation: 'update_weights',
              path: '/update_weights',
              body: { weight_dir: directory },
              patience: patience.LOAD_FROM_DISK,
              retryable: true,
              remedy: WRONG_BROADCAST.filesystem,
            },
            (reply, call) => {
              says('ok')(reply, call);
              return null;
            },
          ),
    resetPrefixCache: () => null,
    weightVersion: () => null,
    setWeightVersion: () => null,
    checksums: () => null,

    processStart: () => probe('metrics', '/metrics', open(vllm.processStart)),
    scorePrompt: ({ model, tokens }) => {
      // Its prefix cache outlives an update: a salt that nobody has used finds nothing in it.
      const salted = { cache_salt: randomUUID() };
      const body = { model, prompt: tokens, max_tokens: 1, temperature: 0, prompt_logprobs: 0, ...salted };
      return {
        ...probe('score', '/v1/completions', open(vllm.promptScore(tokens))),
        method: 'POST',
        budget: 'score',
        body,
      };
    },

    // The server loads in place, so a second load of a name is none too many; NFS may show the files late.
    loadLoraAdapter: ({ name, path }) =>
      post(
        'load',
        {
          operation: 'load_lora_adapter',
          path: generation.loraPath,
          body: { lora_name: name, lora_path: path },
          patience: patience.LOAD_ADAPTER,
          retryable: true,
          alsoRetried: [404],
        },
        generation.loraPath === '/load_lora_adapter' ? says('ok') : succeeded,
      ),
    unloadLoraAdapter: ({ name }) =>
      post(
        'load',
        {
          operation: 'unload_lora_adapter',
          path: '/v1/unload_lora_adapter',
          body: { lora_name: name },
          patience: patience.LOAD_ADAPTER,
          retryable: true,
        },
        unloaded,
      ),
  };
}

function capabilitiesOf(generation: Generation, broadcast: PrimeRlIdentity['broadcast']): Capabilities {
  return {
    rounds: 'one-shot',
    packedIn: 'update',
    uniqueId: 'store',
    restoresByEmptyRound: false,
    weightVersion: false,
    weightChecker: false,
    shutdownTransfer: false,
    resetSaysSuccess: false,
    newRequestsWhilePaused: 'queue',
    wire: broadcast === 'nccl' && generation.joins ? 'prime-rl' : null,
    diskLoad: broadcast === 'filesystem',
    pauseModes: ['keep'],
    isPausedLiesAfterKeep: false,
    // The worker answers when its loader has run; the broadcasts of the last state dict may still be on its stream.
    updateAnswersEarly: true,
  };
}
