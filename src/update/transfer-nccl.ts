/**
 * The NCCL transport: opens every engine's update session, then broadcasts to all wire formats side by side while they receive. Nothing is sent before
 * every engine has accepted; what fails then concerns the engines of its own format, as long as something was sent at all.
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

  const runs = await sendAndReceive(attempt, lanes, clock);
  const untouched = runs.filter((run) => run.untouched);
  const posts = new Map(untouched.flatMap((run) => [...run.posts]));
  if (untouched.length > 0) {
    const theirs = { ...attempt, engines: untouched.flatMap(({ lane }) => lane.engines) };
    await restore(theirs, suspects, posts, clock.toRestore());
  }
  const received: EngineLink[] = [];
  for (const run of runs.filter((each) => !untouched.includes(each))) {
    for (const engine of run.lane.engines) {
      if (run.stats !== null && run.posts.get(engine.id) === 'received') received.push(engine);
      else quarantineUnfinished(attempt, engine);
    }
  }
  await finishAll(attempt, received, clock);
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
    posts.set(engine.id, error === undefined ? 'not-sent' : postOutcome(error));
  }
  await restore(attempt, suspects, posts, clock.toRestore());
  return false;
}

/** Drives all lanes to their ends. */
async function sendAndReceive(
  attempt: Attempt,
  lanes: readonly LaneTransfer[],
  clock: Clock,
): Promise<readonly LaneRun[]> {
  const { signal, settings } = attempt;
  const refusal = new AbortController();
  const totalBytes = lanes.reduce((sum, lane) => sum + lane.totalBytes, 0);
  const sent = new Map<LaneTransfer, number>();
  const runs: readonly LaneRun[] = lanes.map((lane) => {
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
  const failAll = () => {
    refusal.abort();
    for (const run of runs) run.fail();
  };
  signal.addEventListener('abort', failAll, { once: true });
  const called = () => signal.aborted || runs.some(({ failing }) => failing);
  for (const wave of wavesOf(attempt.engines)) {
    if (called()) break;
    for (const run of runs) run.ask(run.lane.engines.filter((engine) => wave.has(engine)));
    if (!lanes.every(({ accepted }) => accepted)) await delay(REFUSAL_WINDOW_MS, refusal.signal);
  }
  if (!called()) await Promise.all(runs.map((run) => run.send()));
  signal.removeEventListener('abort', failAll);
  if (signal.aborted) for (const run of runs.filter(({ stats }) => stats === null)) run.fail();
  await Promise.all(runs.map((run) => run.end()));
  return runs;
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

/** All wire formats together; they were sent at the same time. */
function toReport(ended: readonly NativeTransferStats[], lanes: readonly LaneTransfer[]): TransferReport {
  const sum = (key: keyof NativeTransferStats) => ended.reduce((total, stats) => total + stats[key], 0);
  const elapsedMs = Math.max(0, ...ended.map((stats) => stats.elapsedMs));
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
