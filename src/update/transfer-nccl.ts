/** The NCCL transport: opens every engine's update session, then broadcasts while they receive. */
import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { WeightsUpdate } from '../engines/admin.js';
import { asWeightcastError, WeightcastError } from '../errors.js';
import { type EngineLink, onAll } from '../fleet/engine.js';
import type { NativeTransfer, NativeTransferStats } from '../native.js';
import type { Group } from '../transports/nccl/group.js';
import type { Attempt, Carrier } from './attempt.js';
import { type PostOutcome, postOutcome, quarantineUnfinished, restore, wasAnswered } from './restore.js';
import type { TransferReport } from './types.js';

/**
 * An engine that is not known to have accepted this list gets so long to refuse it before the first byte is sent: a refusal then costs
 * nothing, because an empty round restores an engine that received nothing. Later updates of the session don't wait.
 */
const REFUSAL_WINDOW_MS = 100;
/** After a failure the other engines' receives end by the abort of the communicator: so long they get to say so. */
const SETTLE_MS = 10_000;
/** So long after the deadline at most: the update returns within a second of it. */
const ANSWER_MS = 800;
/** Of the deadline at most a tenth, and at most so long, is kept for the engines that have to be restored when another one stays silent. */
const RESTORE_MS = 10_000;

export interface NcclCarrierOptions {
  readonly group: Group;
  readonly transfer: NativeTransfer;
  readonly update: WeightsUpdate;
  readonly totalBytes: number;
  /** Number of broadcasts. */
  readonly frames: number;
  /** True when these very engine processes have accepted this very list in this session. */
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

/** The one deadline of a transfer: every call of it gets what is left. */
interface Clock {
  readonly left: () => number;
  /** What is left to open the update sessions. */
  readonly toStart: () => number;
  /** What is left to restore engines that received nothing. */
  readonly toRestore: () => number;
}

function clockOf(totalMs: number): Clock {
  const deadline = performance.now() + totalMs;
  const until = (ms: number) => Math.max(1, ms - performance.now());
  return {
    left: () => until(deadline),
    toStart: () => until(deadline - Math.min(RESTORE_MS, totalMs / 10)),
    toRestore: () => Math.min(RESTORE_MS, until(deadline + ANSWER_MS)),
  };
}

async function broadcastAll(attempt: Attempt, options: NcclCarrierOptions): Promise<TransferReport> {
  const { ledger, settings, engines, journal } = attempt;
  attempt.signal.throwIfAborted();
  const clock = clockOf(settings.timeouts.update);
  await journal.ask(
    'receive',
    engines.map(({ id }) => id),
  );
  // Engines that may hold something else than the old version: an empty round does not make them whole.
  const suspects = new Set(ledger.in('quarantined'));
  if (!(await startAll(attempt, suspects, clock))) return toReport(null, options);

  const { stats, posts } = await sendAndReceive(attempt, options, clock);
  if (stats === null && options.transfer.framesIssued === 0) {
    await restore(attempt, suspects, posts, clock.toRestore());
    return toReport(null, options);
  }
  const received = attempt.engines.filter((engine) => stats !== null && posts.get(engine.id) === 'received');
  for (const engine of attempt.engines) if (!received.includes(engine)) quarantineUnfinished(attempt, engine);
  await finishAll(attempt, received, clock);
  return toReport(stats, options);
}

/** Opens the update session on all engines. If one refuses, everybody is restored and false is returned: nothing was sent. */
async function startAll(attempt: Attempt, suspects: Set<string>, clock: Clock): Promise<boolean> {
  const { ledger, engines, signal } = attempt;
  const { failed } = await onAll(engines, async (engine) => {
    const start = engine.admin.startUpdate();
    if (start === null) return;
    ledger.set(engine.id, 'receiving');
    try {
      await engine.call(start, { signal, timeoutMs: clock.toStart() });
    } catch (error) {
      // A session left open by a push that died in it: close it, then open ours. All bytes will be overwritten; until then it is suspect.
      const finish = engine.admin.finishUpdate({ weightVersion: null });
      if (finish === null || !wasAnswered(error)) throw error;
      suspects.add(engine.id);
      await engine.call(finish, { signal, timeoutMs: clock.toStart() }).catch(() => undefined);
      await engine.call(start, { signal, timeoutMs: clock.toStart() });
    }
  });
  if (failed.size === 0 && !signal.aborted) return true;
  for (const [id, error] of failed) {
    if (!signal.aborted) {
      ledger.fail(id, asWeightcastError(error, 'WC_ENGINE_HTTP', { engine: id, phase: 'transfer' }));
    }
  }
  const posts = new Map<string, PostOutcome>();
  for (const engine of engines) {
    const error = failed.get(engine.id);
    posts.set(engine.id, error === undefined ? 'not-sent' : postOutcome(error));
  }
  await restore(attempt, suspects, posts, clock.toRestore());
  return false;
}

interface Outcome {
  /** null when the broadcast did not run to its end. */
  readonly stats: NativeTransferStats | null;
  /** How each engine answered the request to receive. */
  readonly posts: ReadonlyMap<string, PostOutcome>;
}

async function sendAndReceive(attempt: Attempt, options: NcclCarrierOptions, clock: Clock): Promise<Outcome> {
  const { ledger, engines, settings, signal } = attempt;
  const { group, transfer, update } = options;
  const giveUp = new AbortController();
  setMaxListeners(0, giveUp.signal);
  const refusal = new AbortController();
  let stats: NativeTransferStats | null = null;
  let failing = false;
  let settle: NodeJS.Timeout | undefined;
  const fail = () => {
    if (failing) return;
    failing = true;
    refusal.abort();
    // Once everything is sent the others may still be loading it: the group has nothing left to abort.
    if (stats === null) void group.communicator.abort().catch(() => undefined);
    // Where nothing was sent, what comes after the deadline is left to restoring.
    const graceMs = transfer.framesIssued === 0 ? 0 : ANSWER_MS;
    settle = setTimeout(() => giveUp.abort(), Math.min(SETTLE_MS, clock.left()) + graceMs);
  };

  const posts = new Map<string, PostOutcome>();
  const answers = engines.map(async (engine) => {
    ledger.set(engine.id, 'receiving');
    try {
      await engine.call(engine.admin.updateWeights(update), {
        signal: giveUp.signal,
        // Rank 0 knows first: its deadline ends the group, and the engine then gets so long to answer for itself.
        timeoutMs: clock.left() + ANSWER_MS,
      });
      const early = transfer.framesIssued < options.frames;
      if (early && !engine.admin.capabilities.updateAnswersEarly) throw deafEngine(engine);
      posts.set(engine.id, 'received');
    } catch (error) {
      posts.set(engine.id, postOutcome(error));
      if (!signal.aborted) {
        ledger.fail(
          engine.id,
          asWeightcastError(error, 'WC_ENGINE_HTTP', { engine: engine.id, phase: 'transfer' }),
        );
      }
      fail();
    }
  });

  signal.addEventListener('abort', fail, { once: true });
  try {
    if (!options.accepted) await delay(REFUSAL_WINDOW_MS, refusal.signal);
    if (!failing && !signal.aborted) {
      stats = await transfer.run(clock.left(), (progress) => {
        settings.onEvent({
          kind: 'progress',
          phase: 'transfer',
          bytes: progress.bytesSent,
          totalBytes: options.totalBytes,
        });
      });
    }
  } catch (error) {
    const cause = asWeightcastError(error, 'WC_NCCL_FAILED', { phase: 'transfer' });
    for (const engine of engines) {
      if (!signal.aborted && posts.get(engine.id) !== 'received') ledger.fail(engine.id, cause);
    }
    fail();
  } finally {
    signal.removeEventListener('abort', fail);
  }
  if (signal.aborted && stats === null) fail();
  await Promise.all(answers);
  clearTimeout(settle);
  // An engine that left a receive half-way is out of step with the others for good: the next update needs a new group.
  if (failing) await group.communicator.abort().catch(() => undefined);
  else options.onAccepted();
  return { stats, posts };
}

/** Closes the sessions of engines that received everything. */
async function finishAll(attempt: Attempt, engines: readonly EngineLink[], clock: Clock): Promise<void> {
  const { ledger, version, journal } = attempt;
  await journal.mine();
  const { failed } = await onAll(engines, async (engine) => {
    const finish = engine.admin.finishUpdate({ weightVersion: version });
    if (finish !== null) await engine.call(finish, { timeoutMs: clock.left() });
    ledger.received(engine.id, 'nccl');
  });
  for (const [id, error] of failed) {
    ledger.quarantine(id, asWeightcastError(error, 'WC_ENGINE_HTTP', { engine: id, phase: 'transfer' }));
  }
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
