/**
 * What becomes of engines that an update left neither old nor new. A disk load is a full recovery in place (contracts: vLLM, Failure and
 * recovery), but only one version may be served: the new one if any engine has it already or the fallback allows it, else the one in the
 * `recover` directory, by every engine. Beside engines that serve another version, and are not paused here, nothing is loaded.
 */
import { basename } from 'node:path';
import { asWeightcastError, WeightcastError } from '../errors.js';
import { type EngineLink, onAll } from '../fleet/engine.js';
import { unlessStalled } from '../waits.js';
import { type Checkpoint, openCheckpoint } from '../weights/checkpoint.js';
import { requireUnchanged } from '../weights/unchanged.js';
import { type Attempt, enginesIn } from './attempt.js';
import { unlessUnwritable } from './claim/journal.js';
import { DigestBook } from './digests.js';
import type { Ledger } from './ledger.js';
import { resetCaches, resume } from './pause.js';
import { pauseEngine } from './pause-engine.js';
import { requireVersions } from './read-back.js';
import { type DiskVersion, loadFromDisk } from './transfer-files.js';
import { verifyByDigest } from './verify.js';

export type HealingPlan = 'load-new' | 'load-recover' | 'resume-old' | 'leave';

export interface Damage {
  /** Engines that hold or serve the new version. */
  readonly onNew: number;
  /** Engines that serve the old version, or another one than the new: a recovery does not pause those. */
  readonly servingOld: number;
  /** Engines that still hold the old version, paused. */
  readonly untouched: number;
  readonly quarantined: number;
  /** Those of the quarantined that may serve the new version: their resume was not confirmed, nor a pause since. Default none. */
  readonly mayBeNew?: number;
  /** Those among the untouched and the quarantined that load a directory. Default: all. */
  readonly loadable?: number;
  readonly fallback: boolean;
  readonly recover: boolean;
  /** The user asked to stop: engines that still hold the old version keep it. */
  readonly interrupted: boolean;
}

/** Pure decision: what to do with engines that are not on the new version. */
export function planHealing(damage: Damage): HealingPlan {
  const { untouched, quarantined, mayBeNew = 0, loadable = untouched + quarantined } = damage;
  if (quarantined + untouched === 0) return 'leave';
  if (damage.onNew + mayBeNew > 0)
    return damage.fallback && damage.servingOld === 0 && loadable > 0 ? 'load-new' : 'leave';
  if (damage.servingOld > 0) return untouched > 0 ? 'resume-old' : 'leave';
  if (quarantined === 0 || (damage.interrupted && untouched > 0)) return 'resume-old';
  // An engine that loads no directory stays out when the others load one: not for fewer engines than serve without.
  if (loadable > untouched && damage.fallback) return 'load-new';
  if (loadable > untouched && damage.recover) return 'load-recover';
  return untouched > 0 ? 'resume-old' : 'leave';
}

/** Heals what can be healed, proves it and resumes it; what can't stays quarantined. Not interruptible. */
export async function heal(given: Attempt, book: DigestBook): Promise<void> {
  const { ledger, settings, checkpoint } = given;
  // A full disk is no reason to leave engines as they are.
  const journal = unlessUnwritable(given.journal, (why) => ledger.note(why));
  const attempt = { ...given, journal };
  const untouched = enginesIn(attempt, 'paused');
  const quarantined = enginesIn(attempt, 'quarantined');
  const loadable = [...untouched, ...quarantined].filter(
    ({ id, admin }) => admin.capabilities.diskLoad && !ledger.mayStillStart.has(id),
  );
  const stranded = untouched.filter((engine) => !loadable.includes(engine));
  const damage: Damage = {
    onNew: ledger.in('received', 'verified', 'serving-new').length + (given.beside?.onNew ?? 0),
    servingOld: given.beside?.onOther ?? 0,
    untouched: untouched.length,
    quarantined: quarantined.length,
    loadable: loadable.length,
    fallback: settings.fallback === 'filesystem' && (await isLoadable(attempt)),
    recover: settings.recover !== null,
    interrupted: attempt.signal.aborted,
  };
  const plan = await planKnowingAll(attempt, damage);
  switch (plan) {
    case 'leave':
      leaveOut(ledger, untouched, 'it holds the old version while others serve the new one');
      return;
    case 'resume-old':
      ledger.enter('resume');
      return resume(attempt, untouched, 'serving-old');
    case 'load-new': {
      ledger.enter('heal');
      const directory = checkpoint.path ?? '';
      leaveOut(
        ledger,
        stranded,
        'it holds the old version, loads no directory, and others serve the new one',
      );
      await reload(attempt, loadable, { directory, files: checkpoint.files, book });
      for (const engine of enginesIn(attempt, 'received', 'verified')) ledger.healed(engine.id);
      return resume(attempt, enginesIn(attempt, 'received', 'verified'), 'serving-new');
    }
    case 'load-recover': {
      ledger.enter('heal');
      const directory = settings.recover ?? '';
      const old = { ...attempt, version: `recovered:${basename(directory)}` };
      const good = await unlessStalled(
        openCheckpoint(directory),
        (why) => new WeightcastError('WC_FILE_READ', `${directory}: ${why}`, { phase: 'heal' }),
        settings.timeouts.update,
      );
      leaveOut(ledger, stranded, `it loads no directory, and others serve ${directory}`);
      await reload(old, loadable, { directory, files: good.files, book: bookOf(good) });
      const recovered = enginesIn(attempt, 'received', 'verified');
      for (const engine of recovered) ledger.reverted(engine.id);
      return resume(attempt, recovered, 'serving-old');
    }
  }
}

/** Where engines that may serve the new version are in the way of the old one, they are paused again first. */
async function planKnowingAll(attempt: Attempt, damage: Damage): Promise<HealingPlan> {
  const { ledger } = attempt;
  const unsure = enginesIn(attempt, 'quarantined').filter(({ id }) => ledger.mayServeNew.has(id));
  const asTheyAre = planHealing({ ...damage, mayBeNew: unsure.length });
  if (asTheyAre === planHealing(damage)) return asTheyAre;
  await pauseAgain(attempt, unsure);
  return planHealing({ ...damage, mayBeNew: unsure.filter(({ id }) => ledger.mayServeNew.has(id)).length });
}

function leaveOut(ledger: Ledger, engines: readonly EngineLink[], why: string): void {
  for (const { id } of engines) ledger.quarantine(id, new Error(why));
}

/** Pauses again (an engine whose resume was not confirmed may be serving), loads, proves where the engine can, resets caches. */
async function reload(
  attempt: Attempt,
  engines: readonly EngineLink[],
  version: DiskVersion & { readonly book: DigestBook },
): Promise<void> {
  const { settings } = attempt;
  const paused = await pauseAgain(attempt, engines);
  await closeSessions(attempt, paused);
  await loadFromDisk(attempt, paused, version);
  if (settings.verify !== 'none') await verifyByDigest(attempt, version.book, enginesIn(attempt, 'received'));
  await requireVersions(attempt, enginesIn(attempt, 'received', 'verified'));
  await resetCaches(attempt);
}

/**
 * A request to receive that was never answered may come yet, and a load from disk leaves the session open: it would break the engine that was resumed by then.
 * Without a session it is refused. Whoever refuses the finish has none open any more; of one that does not answer the load will tell.
 */
async function closeSessions({ ledger, settings }: Attempt, engines: readonly EngineLink[]): Promise<void> {
  const unsure = engines.filter(({ id }) => ledger.mayStillReceive.has(id));
  await onAll(unsure, async (engine) => {
    const finish = engine.admin.finishUpdate({ weightVersion: null });
    const { probe, pause } = settings.timeouts;
    if (finish !== null) await engine.call(finish, { timeoutMs: Math.min(probe, pause) });
  });
}

/** An engine that can't be paused is quarantined. */
async function pauseAgain(attempt: Attempt, engines: readonly EngineLink[]): Promise<EngineLink[]> {
  const { ledger, settings, journal } = attempt;
  await journal.ask(
    'pause',
    engines.map(({ id }) => id),
  );
  const { failed } = await onAll(engines, async (engine) => {
    ledger.pauseRequested(engine.id);
    await pauseEngine(attempt, engine, { timeoutMs: settings.timeouts.pause });
    ledger.mayServeNew.delete(engine.id);
  });
  for (const [id, error] of failed) {
    ledger.quarantine(id, asWeightcastError(error, 'WC_ENGINE_UNREACHABLE', { engine: id, phase: 'heal' }));
  }
  return engines.filter((engine) => !failed.has(engine.id));
}

function bookOf(checkpoint: Checkpoint): DigestBook {
  return new DigestBook(checkpoint, { onProgress: () => undefined, learned: new Map() });
}

/** The new version can be loaded: it is a directory, and what was checked before the pause. */
async function isLoadable({ checkpoint, ledger }: Attempt): Promise<boolean> {
  if (checkpoint.path === null) return false;
  try {
    await requireUnchanged(checkpoint.files);
    return true;
  } catch (error) {
    ledger.note(`no engine was healed with the new version: ${String((error as Error).message)}`);
    return false;
  }
}
