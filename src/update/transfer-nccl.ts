/** The NCCL transport: opens every engine's update session, then broadcasts while they receive. */
import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TensorSpec, WeightsUpdate } from '../engines/admin.js';
import { asWeightcastError, WeightcastError } from '../errors.js';
import { type EngineLink, onAll } from '../fleet/engine.js';
import type { NativeTransfer, NativeTransferStats } from '../native.js';
import type { Group } from '../transports/nccl/group.js';
import type { Attempt, Carrier } from './attempt.js';
import type { TransferReport } from './types.js';

/**
 * An engine that has not yet accepted this list gets so long to refuse it before the first byte is sent: a refusal then costs nothing, because
 * start + finish restores an engine that received nothing. Later updates of the session don't wait.
 */
const REFUSAL_WINDOW_MS = 100;
/** After a failure the other engines' receives end by the abort of the communicator: so long they get to say so. */
const SETTLE_MS = 10_000;
/** So long after the deadline at most: the update returns within a second of it. */
const ANSWER_MS = 800;

export interface NcclCarrierOptions {
  readonly group: Group;
  readonly transfer: NativeTransfer;
  readonly tensors: readonly TensorSpec[];
  readonly totalBytes: number;
  /** Number of broadcasts. */
  readonly frames: number;
  /** True when these engines have accepted this very list in this session. */
  readonly accepted: boolean;
  readonly onAccepted: () => void;
}

export function ncclCarrier(options: NcclCarrierOptions): Carrier {
  return {
    name: 'nccl',
    transfer: (attempt) => broadcastAll(attempt, options),
    close: () => options.transfer.close(),
  };
}

async function broadcastAll(attempt: Attempt, options: NcclCarrierOptions): Promise<TransferReport> {
  const { ledger, engines } = attempt;
  const suspects = new Set(ledger.in('quarantined'));
  attempt.signal.throwIfAborted();
  if (!(await startAll(attempt, suspects))) return toReport(null, options);

  const { stats, received } = await sendAndReceive(attempt, options);
  const untouched = stats === null && options.transfer.framesIssued === 0;
  if (untouched) {
    await restore(attempt, engines, suspects);
    return toReport(null, options);
  }
  if (received.length > 0) await finishAll(attempt, received);
  return toReport(stats, options);
}

/** Opens the update session on all engines. If one refuses, everybody is restored and false is returned: nothing was sent. */
async function startAll(attempt: Attempt, suspects: ReadonlySet<string>): Promise<boolean> {
  const { ledger, engines, settings } = attempt;
  const timeoutMs = settings.timeouts.update;
  const { failed } = await onAll(engines, async (engine) => {
    const start = engine.admin.startUpdate();
    if (start === null) return;
    ledger.set(engine.id, 'receiving');
    try {
      await engine.call(start, { timeoutMs });
    } catch (error) {
      // A session left open by a push that died in it: close it, then open ours. All bytes will be overwritten.
      const finish = engine.admin.finishUpdate({ weightVersion: null });
      if (finish === null) throw error;
      await engine.call(finish, { timeoutMs }).catch(() => undefined);
      await engine.call(start, { timeoutMs });
    }
  });
  if (failed.size === 0) return true;
  for (const [id, error] of failed)
    ledger.fail(id, asWeightcastError(error, 'WC_ENGINE_HTTP', { engine: id, phase: 'transfer' }));
  await restore(attempt, engines, suspects);
  return false;
}

interface Outcome {
  /** null when the broadcast did not run to its end. */
  readonly stats: NativeTransferStats | null;
  /** Engines that answered that they received every byte. */
  readonly received: readonly EngineLink[];
}

async function sendAndReceive(attempt: Attempt, options: NcclCarrierOptions): Promise<Outcome> {
  const { ledger, engines, settings, signal } = attempt;
  const { group, transfer } = options;
  const deadline = performance.now() + settings.timeouts.update;
  const update: WeightsUpdate = { tensors: options.tensors, packing: group.packing };
  const giveUp = new AbortController();
  setMaxListeners(0, giveUp.signal);
  let failing = false;
  const fail = () => {
    if (failing) return;
    failing = true;
    void group.communicator.abort().catch(() => undefined);
    const settleMs = Math.min(SETTLE_MS, Math.max(0, deadline - performance.now()) + ANSWER_MS);
    setTimeout(() => giveUp.abort(), settleMs).unref();
  };
  const refusal = new AbortController();

  const received: EngineLink[] = [];
  const posts = engines.map(async (engine) => {
    ledger.set(engine.id, 'receiving');
    try {
      await engine.call(engine.admin.updateWeights(update), {
        signal: giveUp.signal,
        // Rank 0 knows first: its deadline ends the group, and the engine then gets so long to answer for itself.
        timeoutMs: settings.timeouts.update + ANSWER_MS,
      });
      if (transfer.framesIssued < options.frames) throw deafEngine(engine);
      received.push(engine);
    } catch (error) {
      ledger.fail(
        engine.id,
        asWeightcastError(error, 'WC_ENGINE_HTTP', { engine: engine.id, phase: 'transfer' }),
      );
      refusal.abort();
      fail();
    }
  });

  let stats: NativeTransferStats | null = null;
  signal.addEventListener('abort', fail, { once: true });
  try {
    if (!options.accepted) await delay(REFUSAL_WINDOW_MS, refusal.signal);
    if (!failing && !signal.aborted) {
      stats = await transfer.run(Math.max(1, deadline - performance.now()), (progress) => {
        settings.onEvent({
          kind: 'progress',
          phase: 'transfer',
          bytes: progress.bytesSent,
          totalBytes: options.totalBytes,
        });
      });
    }
  } catch (error) {
    const interrupted = signal.aborted
      ? new WeightcastError('WC_UPDATE_ABORTED', 'interrupted during the transfer')
      : error;
    for (const engine of engines) {
      if (!received.includes(engine))
        ledger.fail(engine.id, asWeightcastError(interrupted, 'WC_NCCL_FAILED', { phase: 'transfer' }));
    }
    fail();
  } finally {
    signal.removeEventListener('abort', fail);
  }
  if (signal.aborted) fail();
  await Promise.all(posts);
  if (stats !== null && !failing) options.onAccepted();
  for (const engine of engines) {
    if (received.includes(engine) && stats !== null) continue;
    quarantineUnfinished(attempt, engine);
  }
  return { stats, received: stats === null ? [] : received };
}

function quarantineUnfinished({ ledger }: Attempt, engine: EngineLink): void {
  ledger.quarantine(
    engine.id,
    new WeightcastError(
      'WC_UPDATE_QUARANTINED',
      'its update session was opened and not finished: it would die at its next request',
      {
        engine: engine.id,
        phase: 'transfer',
      },
    ),
  );
}

/** Closes the sessions of engines that received everything. */
async function finishAll(attempt: Attempt, engines: readonly EngineLink[]): Promise<void> {
  const { ledger, settings, version } = attempt;
  const { done, failed } = await onAll(engines, async (engine) => {
    const finish = engine.admin.finishUpdate({ weightVersion: version });
    if (finish !== null) await engine.call(finish, { timeoutMs: settings.timeouts.update });
  });
  for (const id of done.keys()) ledger.received(id, 'nccl');
  for (const [id, error] of failed)
    ledger.quarantine(id, asWeightcastError(error, 'WC_ENGINE_HTTP', { engine: id, phase: 'transfer' }));
}

/**
 * Puts engines that received no byte back to the old version: an empty round (contracts: vLLM, Failure and recovery, 2). Engines that can't do
 * that, or that were suspect before, stay quarantined.
 */
async function restore(
  attempt: Attempt,
  engines: readonly EngineLink[],
  suspects: ReadonlySet<string>,
): Promise<void> {
  const { ledger, settings } = attempt;
  const timeoutMs = settings.timeouts.update;
  await onAll(engines, async (engine) => {
    if (suspects.has(engine.id)) return ledger.set(engine.id, 'quarantined', 'was found paused');
    const finish = engine.admin.finishUpdate({ weightVersion: null });
    const start = engine.admin.startUpdate();
    if (start === null || finish === null || !engine.admin.capabilities.restoresByEmptyRound) {
      if (ledger.is(engine.id, 'paused')) return; // its session was never opened
      return quarantineUnfinished(attempt, engine);
    }
    try {
      await engine.call(finish, { timeoutMs }).catch(async () => {
        await engine.call(start, { timeoutMs });
        await engine.call(finish, { timeoutMs });
      });
      ledger.set(engine.id, 'paused', 'restored by an empty round: it had received nothing');
    } catch (error) {
      ledger.quarantine(
        engine.id,
        asWeightcastError(error, 'WC_ENGINE_HTTP', { engine: engine.id, phase: 'transfer' }),
      );
    }
  });
}

function toReport(stats: NativeTransferStats | null, options: NcclCarrierOptions): TransferReport {
  const elapsedMs = stats?.elapsedMs ?? 0;
  return {
    transport: 'nccl',
    bytes: stats?.bytes ?? 0,
    frames: stats?.frames ?? options.transfer.framesIssued,
    elapsedMs,
    bytesPerSecond: stats === null || elapsedMs === 0 ? 0 : stats.bytes / (elapsedMs / 1000),
    readMs: stats?.readMs ?? 0,
    copyMs: stats?.copyMs ?? 0,
    broadcastMs: stats?.broadcastMs ?? 0,
  };
}

/** vLLM disables a communicator silently (no libnccl, a world of one) and then answers 200 without having received anything. */
function deafEngine(engine: EngineLink): WeightcastError {
  return new WeightcastError(
    'WC_ENGINE_PROTOCOL',
    'it says that it received the weights before they were sent: its communicator is disabled',
    {
      engine: engine.id,
      phase: 'transfer',
      remedy:
        'Check that the server loads libnccl (VLLM_NCCL_SO_PATH) and that VLLM_DISABLE_PYNCCL is not set.',
    },
  );
}

/** Waits, but not beyond the signal; never rejects. */
function delay(ms: number, signal: AbortSignal): Promise<void> {
  return sleep(ms, undefined, { signal }).catch(() => undefined);
}
