/**
 * The NCCL transport: opens every engine's update session, asks all engines to receive, then broadcasts to one wire format after the other. Nothing is
 * sent before every engine has accepted; what fails then concerns the engines of its own format, as long as something was sent at all.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { asWeightcastError } from '../errors.js';
import { type EngineLink, onAll } from '../fleet/engine.js';
import type { NativeTransferStats } from '../native.js';
import type { Attempt, Carrier } from './attempt.js';
import { type Clock, clockOf } from './clock.js';
import { type PostOutcome, postOutcome, quarantineUnfinished, restore, wasAnswered } from './restore.js';
import { tagFor } from './tag.js';
import { LaneRun, type LaneTransfer } from './transfer-lane.js';
import type { TransferReport } from './types.js';

/**
 * An engine that is not known to have accepted this list gets so long to refuse it before the first byte is sent: a refusal then costs
 * nothing, because an empty round restores an engine that received nothing. Later updates of the session don't wait.
 */
const REFUSAL_WINDOW_MS = 100;

export function ncclCarrier(lanes: readonly LaneTransfer[]): Carrier {
  return {
    name: 'nccl',
    transfer: (attempt) => broadcastAll(attempt, lanes),
    close: async () => {
      await Promise.all(lanes.map(({ transfer }) => transfer.close()));
    },
  };
}

async function broadcastAll(attempt: Attempt, lanes: readonly LaneTransfer[]): Promise<TransferReport> {
  const { ledger, settings, engines, journal } = attempt;
  attempt.signal.throwIfAborted();
  const clock = clockOf(settings.timeouts.update);
  await journal.ask(
    'receive',
    engines.map(({ id }) => id),
  );
  // Engines that may hold something else than the old version: an empty round does not make them whole.
  const suspects = new Set(ledger.in('quarantined'));
  if (!(await startAll(attempt, suspects, clock))) return toReport([], lanes);

  const runs = await sendAndReceive(attempt, lanes, { clock, suspects });
  return toReport(
    runs.flatMap(({ stats }) => stats ?? []),
    lanes,
  );
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
    const outcome = error === undefined ? 'not-sent' : postOutcome(error);
    posts.set(engine.id, outcome === 'unknown' ? 'unstarted' : outcome);
  }
  await restore(attempt, suspects, posts, clock.toRestore());
  return false;
}

interface Circumstances {
  readonly clock: Clock;
  readonly suspects: ReadonlySet<string>;
}

/** Drives each lane to its end, whatever becomes of the others. @throws WeightcastError WC_UPDATE_BUSY when another push took the engines over */
async function sendAndReceive(
  attempt: Attempt,
  lanes: readonly LaneTransfer[],
  { clock, suspects }: Circumstances,
): Promise<readonly LaneRun[]> {
  const { signal, settings } = attempt;
  const refusal = new AbortController();
  const totalBytes = lanes.reduce((sum, lane) => sum + lane.totalBytes, 0);
  const sent = new Map<LaneTransfer, number>();
  const runs: readonly LaneRun[] = inTurn(lanes).map((lane) => {
    const run: LaneRun = new LaneRun(attempt, {
      lane,
      clock,
      onFailure: () => {
        refusal.abort();
        // As long as nobody has received anything, everybody can stay on the old version. Later, whoever gets all of it serves the new one.
        if (runs.every((each) => each.untouched)) failAll();
        else run.fail();
      },
      onProgress: (bytes) => {
        sent.set(lane, bytes);
        const all = [...sent.values()].reduce((sum, part) => sum + part, 0);
        settings.onEvent({ kind: 'progress', phase: 'transfer', bytes: all, totalBytes });
      },
    });
    return run;
  });
  // What was sent whole is not given up: its engines only have to answer.
  const failAll = () => {
    refusal.abort();
    for (const run of runs) if (run.stats === null) run.fail();
  };
  signal.addEventListener('abort', failAll, { once: true });
  const called = () => signal.aborted || runs.some(({ failing }) => failing);
  for (const wave of wavesOf(attempt.engines)) {
    if (called()) break;
    for (const run of runs) run.ask(run.lane.engines.filter((engine) => wave.has(engine)));
    if (!lanes.every(({ accepted }) => accepted)) await delay(REFUSAL_WINDOW_MS, refusal.signal);
  }
  if (called()) failAll();
  // NCCL's docs forbid operations on two communicators of one device from two threads (usage/threadsafety.rst; contracts/nccl.md 2.2), and each lane has a
  // thread: so one lane is sent after the other. The engines of the others wait in their receives. No lane gets the time of those behind it.
  let sending: Promise<void> = Promise.resolve();
  const ends = runs.map(async (run, index) => {
    sending = sending.then(() => run.send(clock.left() / (runs.length - index)));
    await sending;
    await run.end();
    await settle(attempt, run, { clock, suspects });
  });
  const settled = await Promise.allSettled(ends);
  signal.removeEventListener('abort', failAll);
  for (const end of settled) if (end.status === 'rejected') throw end.reason;
  return runs;
}

/** Where an engine can be restored a failure costs least, so these are sent first. */
function inTurn(lanes: readonly LaneTransfer[]): LaneTransfer[] {
  const restores = ({ engines }: LaneTransfer) =>
    engines.every(({ admin }) => admin.capabilities.restoresByEmptyRound);
  return [...lanes.filter(restores), ...lanes.filter((lane) => !restores(lane))];
}

/** What becomes of a lane's engines, at once: another lane may take until the deadline. */
async function settle(attempt: Attempt, run: LaneRun, { clock, suspects }: Circumstances): Promise<void> {
  const { engines } = run.lane;
  if (run.untouched) {
    await restore({ ...attempt, engines }, suspects, run.posts, clock.toRestore());
    return;
  }
  const whole = engines.filter((engine) => run.receivedAll(engine));
  for (const engine of engines)
    if (!whole.includes(engine)) quarantineUnfinished(attempt, engine, run.posts.get(engine.id));
  await finishAll(attempt, whole, clock);
}

/** Those that a refusal by another one costs nothing are asked first: the others would wait in a receive that they can't leave. */
function wavesOf(engines: readonly EngineLink[]): ReadonlySet<EngineLink>[] {
  const restores = ({ admin }: EngineLink) => admin.capabilities.restoresByEmptyRound;
  const waves = [engines.filter(restores), engines.filter((engine) => !restores(engine))];
  return waves.filter((wave) => wave.length > 0).map((wave) => new Set(wave));
}

/** Closes the sessions of engines that received everything. */
async function finishAll(attempt: Attempt, engines: readonly EngineLink[], clock: Clock): Promise<void> {
  const { ledger, journal } = attempt;
  if (engines.length === 0) return;
  await journal.mine();
  const { failed } = await onAll(engines, async (engine) => {
    const finish = engine.admin.finishUpdate({ weightVersion: tagFor(attempt, engine) });
    if (finish !== null) await engine.call(finish, { timeoutMs: clock.left() });
    ledger.received(engine.id, 'nccl');
  });
  for (const [id, error] of failed) {
    ledger.quarantine(id, asWeightcastError(error, 'WC_ENGINE_HTTP', { engine: id, phase: 'transfer' }));
  }
}

/** All wire formats together; they were sent one after the other. */
function toReport(ended: readonly NativeTransferStats[], lanes: readonly LaneTransfer[]): TransferReport {
  const sum = (key: keyof NativeTransferStats) => ended.reduce((total, stats) => total + stats[key], 0);
  const elapsedMs = sum('elapsedMs');
  const bytes = sum('bytes');
  return {
    transport: 'nccl',
    bytes,
    frames:
      ended.length === lanes.length
        ? sum('frames')
        : lanes.reduce((total, { transfer }) => total + transfer.framesIssued, 0),
    elapsedMs,
    bytesPerSecond: elapsedMs === 0 ? 0 : bytes / (elapsedMs / 1000),
    readMs: sum('readMs'),
    copyMs: sum('copyMs'),
    broadcastMs: sum('broadcastMs'),
  };
}

/** Waits, but not beyond the signal; never rejects. */
function delay(ms: number, signal: AbortSignal): Promise<void> {
  return sleep(ms, undefined, { signal }).catch(() => undefined);
}
