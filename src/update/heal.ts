/**
 * What becomes of engines that an update left neither old nor new. A disk load is a full recovery in place (contracts: vLLM, Failure and
 * recovery), but only one version may be served: the new one if any engine has it already or the fallback allows it, else the old one
 * from the `recover` directory.
 */
import type { Attempt } from './attempt.js';
import { enginesIn } from './attempt.js';
import type { DigestBook } from './digests.js';
import { resetCaches, resume } from './pause.js';
import { loadFromDisk } from './transfer-files.js';
import { verifyByDigest } from './verify.js';

export type HealingPlan = 'load-new' | 'load-old' | 'resume-old' | 'leave';

export interface Damage {
  /** Engines that hold or serve the new version. */
  readonly onNew: number;
  /** Engines that still hold the old version, paused. */
  readonly untouched: number;
  readonly quarantined: number;
  /** Engines that can be asked to load a directory at all. */
  readonly fallback: boolean;
  readonly recover: boolean;
  /** The user asked to stop: engines that still hold the old version keep it. */
  readonly interrupted: boolean;
}

/** Pure decision: what to do with engines that are not on the new version. */
export function planHealing(damage: Damage): HealingPlan {
  if (damage.quarantined + damage.untouched === 0) return 'leave';
  if (damage.onNew > 0) return damage.fallback ? 'load-new' : 'leave';
  if (damage.quarantined === 0 || (damage.interrupted && damage.untouched > 0)) return 'resume-old';
  if (damage.fallback) return 'load-new';
  if (damage.recover) return 'load-old';
  return damage.untouched > 0 ? 'resume-old' : 'leave';
}

/** Heals what can be healed and resumes it; what can't stays quarantined. Not interruptible. */
export async function heal(attempt: Attempt, book: DigestBook | null): Promise<void> {
  const { ledger, settings, checkpoint } = attempt;
  const untouched = enginesIn(attempt, 'paused');
  const quarantined = enginesIn(attempt, 'quarantined');
  const plan = planHealing({
    onNew: ledger.in('received', 'verified', 'serving-new').length,
    untouched: untouched.length,
    quarantined: quarantined.length,
    fallback: settings.fallback === 'filesystem' && checkpoint.path !== null,
    recover: settings.recover !== null,
    interrupted: attempt.signal.aborted,
  });
  switch (plan) {
    case 'leave':
      for (const engine of untouched)
        ledger.quarantine(engine.id, new Error('holds the old version while others serve the new one'));
      return;
    case 'resume-old':
      ledger.enter('resume');
      await resume(attempt, untouched, 'serving-old');
      return;
    case 'load-new': {
      ledger.enter('heal');
      await loadFromDisk(attempt, [...untouched, ...quarantined], checkpoint.path ?? '');
      if (book !== null) await verifyByDigest(attempt, book, enginesIn(attempt, 'received'));
      await resetCaches(attempt);
      await resume(attempt, enginesIn(attempt, 'received', 'verified'), 'serving-new');
      return;
    }
    case 'load-old': {
      ledger.enter('heal');
      await loadFromDisk({ ...attempt, version: null }, quarantined, settings.recover ?? '');
      await resume(attempt, [...untouched, ...enginesIn(attempt, 'received')], 'serving-old');
      return;
    }
  }
}
