/** weightcast as the trainer beside a prime-rl orchestrator: rank 0 of the engines' group, which asks no engine anything. */
import { asWeightcastError, WeightcastError } from '../errors.js';
import type { NativeCommunicator, NativeRuntime } from '../native.js';
import { type MarkerGeneration, primeRlSend } from '../transports/filesystem/prime-rl/index.js';
import { awaitGroup } from '../transports/nccl/awaited-group.js';
import { openRuntime } from '../transports/nccl/runtime.js';
import { stagingFor } from '../transports/nccl/wire/memory.js';
import { planSteps } from '../transports/nccl/wire/plan.js';
import { requireDevice } from '../update/nccl-sender.js';
import { DEFAULT_PACKED_BUFFER_BYTES, harmless } from '../update/settings.js';
import { openCheckpoint } from '../weights/checkpoint.js';
import { flattenSteps } from '../weights/flatten.js';
import { orderSteps } from '../weights/order.js';
import { requireUnchanged } from '../weights/unchanged.js';
import { runInSlices } from '../weights/yielding.js';

export interface PrimeRlSenderOptions {
  /** `<run>/broadcasts`, which the orchestrator watches. */
  readonly broadcasts: string;
  /** GPU workers of all engines, the trainer not included: prime-rl's `inference_world_size`. */
  readonly inferenceWorldSize: number;
  /** Address on which rank 0 listens; it hands out a pickle, so let only the engines reach it. Default 127.0.0.1, prime-rl's localhost. */
  readonly host?: string;
  /** 0 takes a free one, which `onListening` is told. Default 29501, prime-rl's. */
  readonly port?: number;
  /** Milliseconds until every worker has joined. Default 1,200,000, prime-rl's. */
  readonly joinTimeoutMs?: number;
  /** Milliseconds until the orchestrator must have paused the engines for a version. Default 1,200,000, prime-rl's. */
  readonly answerTimeoutMs?: number;
  /** Milliseconds for the broadcast of one version. Default 720,000, prime-rl's patience with its engines. */
  readonly updateTimeoutMs?: number;
  /** Which markers are used; default both, and the orchestrator's answer decides. */
  readonly generation?: MarkerGeneration;
  /** Bytes at which a state dict is cut between two modules; null keeps prime-rl's own dicts. Default 256 MiB. */
  readonly packedBufferBytes?: number | null;
  /** Index of the CUDA device that sends. Default 0. */
  readonly device?: number;
  /** Emulated CUDA and NCCL in host memory. */
  readonly emulate?: boolean;
  readonly cudaLibrary?: string;
  readonly ncclLibrary?: string;
  /** Milliseconds between two looks for the orchestrator's answer. Default 100. */
  readonly pollMs?: number;
  /** Ends the wait for the workers. */
  readonly signal?: AbortSignal;
  /** Told once workers may join: now the orchestrator can tell the engines to. */
  readonly onListening?: (port: number) => void;
}

export interface SendOptions {
  /** Ends the wait for the orchestrator. Once that has answered, its engines are asked to receive, and the version is sent whatever happens. */
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: SendEvent) => void;
}

/** What a version that is being sent has come to. */
export type SendEvent =
  /** Its first bytes are staged, and it is announced. */
  | { readonly kind: 'announced'; readonly totalBytes: number }
  | { readonly kind: 'waiting'; readonly elapsedMs: number }
  /** Every engine is paused. */
  | { readonly kind: 'answered'; readonly generation: MarkerGeneration }
  | { readonly kind: 'progress'; readonly bytes: number; readonly totalBytes: number };

/** A version that has left. Whether the engines loaded it the orchestrator knows: they answer it. */
export interface SendReport {
  readonly version: number;
  readonly generation: MarkerGeneration;
  readonly tensors: number;
  /** With the metadata. */
  readonly bytes: number;
  readonly frames: number;
  /** Milliseconds from the announcement to the answer, and of the broadcast. */
  readonly waitedMs: number;
  readonly elapsedMs: number;
  readonly bytesPerSecond: number;
}

const SLOT_BYTES = 64 * 1024 * 1024;
const STANDS_MS = 2_000;
const CLOSE_MS = 10_000;
const ENGINES = "the orchestrator's engines";
const LARGEST_VERSION = 10 ** 15 - 1;

/** Rank 0 of a group that stands. Made by {@link openPrimeRlSender}. */
export class PrimeRlSender {
  /** What NCCL this is; emulated ones say so. */
  readonly runtime: Pick<NativeRuntime, 'emulated' | 'ncclVersion' | 'ncclLibrary'>;
  readonly #communicator: NativeCommunicator;
  readonly #options: PrimeRlSenderOptions;
  readonly #closing = new AbortController();
  #sending: Promise<unknown> | null = null;

  /** @internal */
  constructor(runtime: NativeRuntime, communicator: NativeCommunicator, options: PrimeRlSenderOptions) {
    this.runtime = runtime;
    this.#communicator = communicator;
    this.#options = options;
  }

  /**
   * Stages a checkpoint, announces it, and broadcasts it once the orchestrator has paused its engines.
   *
   * @param weights a checkpoint directory or a .safetensors file
   * @param version `step_<version>`
   * @throws WeightcastError WC_RENDEZVOUS_TIMEOUT when no orchestrator answers, and WC_UPDATE_ABORTED: nothing is announced any more, and the group stands.
   * WC_UPDATE_QUARANTINED when the broadcast failed: its engines hold part of the version, or wait for it, and the group is over. WC_NCCL_ABORTED when it was over
   * before, WC_UPDATE_BUSY, WC_NATIVE_CLOSED, and what is wrong with the checkpoint
   */
  async send(weights: string, version: number, options: SendOptions = {}): Promise<SendReport> {
    if (this.#closing.signal.aborted) throw new WeightcastError('WC_NATIVE_CLOSED', 'the sender is closed');
    if (this.#sending !== null) {
      throw new WeightcastError('WC_UPDATE_BUSY', 'this sender is sending a version already');
    }
    const { signal } = options;
    const either = AbortSignal.any([this.#closing.signal, ...(signal === undefined ? [] : [signal])]);
    const sending = this.#send(weights, version, { ...options, signal: either });
    this.#sending = sending;
    try {
      return await sending;
    } finally {
      this.#sending = null;
    }
  }

  async #send(
    weights: string,
    version: number,
    { signal, onEvent }: SendOptions & { readonly signal: AbortSignal },
  ): Promise<SendReport> {
    check(isWhole(version, 0, LARGEST_VERSION), `version ${version}: prime-rl counts versions from 0`);
    const { broadcasts, generation, pollMs } = this.#options;
    const { answerTimeoutMs, updateTimeoutMs = 720_000 } = this.#options;
    await this.#requireGroup();
    const tell = harmless(onEvent);
    const { plan, transfer } = await this.#stage(weights, { signal, updateTimeoutMs });
    const announcedMs = performance.now();
    let step: 'announced' | 'sending' | 'sent' = 'announced';
    try {
      tell({ kind: 'announced', totalBytes: plan.byteLength });
      return await primeRlSend(
        {
          ...{ broadcasts, version, generation, signal },
          ...(pollMs === undefined ? {} : { pollMs }),
          ...(answerTimeoutMs === undefined ? {} : { timeoutMs: answerTimeoutMs }),
          onWaiting: (elapsedMs) => tell({ kind: 'waiting', elapsedMs }),
        },
        async (answer): Promise<SendReport> => {
          step = 'sending';
          const waitedMs = performance.now() - announcedMs;
          tell({ kind: 'answered', generation: answer.generation });
          const { bytes, frames, elapsedMs } = await transfer.run(updateTimeoutMs, ({ bytesSent }) =>
            tell({ kind: 'progress', bytes: bytesSent, totalBytes: plan.byteLength }),
          );
          step = 'sent';
          const bytesPerSecond = elapsedMs === 0 ? 0 : bytes / (elapsedMs / 1000);
          const tensors = plan.tensors.length;
          return { version, ...answer, tensors, bytes, frames, waitedMs, elapsedMs, bytesPerSecond };
        },
      );
    } catch (error) {
      if ((step as string) !== 'sending') throw error;
      await this.#communicator.abort().catch(() => undefined);
      throw unfinished(error, version, transfer.framesIssued);
    } finally {
      await transfer.close().catch(() => undefined);
    }
  }

  /** Everything that can be done before an engine is paused. */
  async #stage(
    weights: string,
    { signal, updateTimeoutMs }: { readonly signal: AbortSignal; readonly updateTimeoutMs: number },
  ) {
    const { packedBufferBytes = DEFAULT_PACKED_BUFFER_BYTES } = this.#options;
    const packing = packedBufferBytes === null ? null : { bufferBytes: packedBufferBytes, numBuffers: 2 };
    const checkpoint = await openCheckpoint(weights, { signal });
    const order = await runInSlices(orderSteps(checkpoint.tensors), signal);
    const plan = await runInSlices(planSteps('prime-rl', order, packing), signal);
    const staging = stagingFor(plan, { slotBytes: Math.min(SLOT_BYTES, plan.byteLength) });
    const native = await runInSlices(flattenSteps(plan.frames, checkpoint.files, staging), signal);
    const transfer = await this.#communicator.prepare(native, updateTimeoutMs);
    try {
      await requireUnchanged(checkpoint.files, { mayBeGone: true });
      return { plan, transfer };
    } catch (error) {
      await transfer.close().catch(() => undefined);
      throw error;
    }
  }

  /** Before a version is announced that could not be sent. */
  async #requireGroup(): Promise<void> {
    const { state } = this.#communicator;
    const result = state === 'ready' ? await this.#communicator.asyncError(STANDS_MS).catch(() => 1) : 1;
    if (result === 0) return;
    throw new WeightcastError(
      'WC_NCCL_ABORTED',
      state === 'ready'
        ? 'a worker of the group is gone'
        : 'the group is over: a version before was not sent whole',
      {
        phase: 'preflight',
        remedy:
          'Restart the engines, and open another sender: the orchestrator tells them to join it. NCCL has no way back into a group.',
      },
    );
  }

  /** Withdraws what is announced, or finishes what is being sent; then leaves the group. Safe to call twice. */
  async close(): Promise<void> {
    this.#closing.abort(new WeightcastError('WC_UPDATE_ABORTED', 'the sender was closed'));
    await this.#sending?.catch(() => undefined);
    await this.#communicator.destroy(CLOSE_MS).catch(() => undefined);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/**
 * Listens as rank 0 until the orchestrator has told every engine to join, as prime-rl's trainer does when it starts. No engine is asked anything: the
 * orchestrator pauses them, has them receive, and resumes them. See {@link followTrainer} for an orchestrator of our own.
 *
 * @example
 * await using sender = await openPrimeRlSender({ broadcasts: '/run/broadcasts', host: '10.0.0.1', inferenceWorldSize: 8 });
 * await sender.send('/checkpoints/step_17', 17);
 *
 * @throws WeightcastError WC_CONFIG_INVALID, WC_RENDEZVOUS_TIMEOUT, WC_RENDEZVOUS_ADDRESS, WC_UPDATE_ABORTED, and what is wrong with CUDA and NCCL
 */
export async function openPrimeRlSender(options: PrimeRlSenderOptions): Promise<PrimeRlSender> {
  const { inferenceWorldSize: workers, host = '127.0.0.1', port = 29_501, device = 0, signal } = options;
  check(isWhole(workers, 1, 65_536), `inferenceWorldSize ${workers}: expected a number of GPU workers`);
  check(isWhole(port, 0, 65_535), `port ${port}: expected a port number, or 0 for a free one`);
  const { emulate = false, cudaLibrary = null, ncclLibrary = null } = options;
  const runtime = await openRuntime({ emulate, cudaLibrary, ncclLibrary }, signal);
  requireDevice(runtime, device);
  const communicator = await awaitGroup({
    ...{ runtime, device, host, port, workers, signal, who: ENGINES },
    timeoutMs: options.joinTimeoutMs ?? 1_200_000,
    onListening: options.onListening,
  }).catch((error: unknown) => {
    throw unjoined(error, host);
  });
  return new PrimeRlSender(runtime, communicator, options);
}

function unjoined(error: unknown, host: string): WeightcastError {
  const known = asWeightcastError(error, 'WC_NCCL_FAILED', { phase: 'rendezvous' });
  if (known.code !== 'WC_RENDEZVOUS_TIMEOUT') return known;
  const { message, cause, details, phase } = known;
  return new WeightcastError(known.code, message, {
    ...{ phase: phase ?? 'rendezvous', cause, details },
    remedy: `Check that the orchestrator runs and tells its engines this machine's address and port, that they reach it (rank 0 listens on ${host}), and that the inference world size counts every GPU worker.`,
  });
}

function unfinished(error: unknown, version: number, framesIssued: number): WeightcastError {
  const cause = asWeightcastError(error, 'WC_NCCL_FAILED', { phase: 'transfer' });
  return new WeightcastError(
    'WC_UPDATE_QUARANTINED',
    `version ${version} was not sent whole after the orchestrator had paused its engines: ${cause.message}`,
    {
      phase: 'transfer',
      cause,
      details: { version, framesIssued, code: cause.code },
      remedy:
        'Engines that wait in NCCL wait for ever, and what they hold is part of it: restart them, and the orchestrator where it has ended. They must not be resumed as they are.',
    },
  );
}

function isWhole(value: number, min: number, max: number): boolean {
  return Number.isSafeInteger(value) && value >= min && value <= max;
}

function check(ok: boolean, message: string): void {
  if (!ok) throw new WeightcastError('WC_CONFIG_INVALID', message);
}
