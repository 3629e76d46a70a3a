/**
 * The weight-update state of one engine, as pure data: may a step run, and what is true afterwards.
 * contracts/vllm.md 1.8 and "Failure and recovery".
 */
import type { Profile } from './profile.js';
import { WorkerError } from './transfer-info.js';

export interface Session {
  /** vLLM's `_weight_update_active`: between start and finish. */
  readonly active: boolean;
  /** The layers are stripped for reloading: the next generated token kills the engine. */
  readonly stripped: boolean;
  /** Updates of this session that were received. */
  readonly received: number;
  /** An update of this session failed. */
  readonly failed: boolean;
}

export const INTACT: Session = { active: false, stripped: false, received: 0, failed: false };

export function started(session: Session): Session {
  if (session.active) {
    throw new WorkerError(
      'start_weight_update called while a weight update is already active. Call finish_weight_update first.',
    );
  }
  return { active: true, stripped: true, received: 0, failed: false };
}

/** May an update be received now? */
export function requireOpen(profile: Profile, session: Session): void {
  if (profile.rounds === 'three-step' && !session.active) {
    throw new WorkerError('start_weight_update must be called before update_weights.');
  }
}

/** An update failed; `touched` is false when its metadata was refused before a one-shot update stripped a layer. */
export function updateFailed(profile: Profile, session: Session, touched: boolean): Session {
  if (profile.rounds === 'one-shot') {
    return touched ? { ...session, stripped: true } : session;
  }
  return { ...session, active: !profile.failureClosesSession, stripped: true, failed: true };
}

export function updateReceived(profile: Profile, session: Session): Session {
  return profile.rounds === 'one-shot' ? INTACT : { ...session, received: session.received + 1 };
}

export function finished(profile: Profile, session: Session): Session {
  if (!session.active) {
    throw new WorkerError(
      profile.failureClosesSession
        ? 'finish_weight_update called without a matching start_weight_update.'
        : 'start_weight_update must be called before finish_weight_update.',
    );
  }
  const restored = session.received > 0 || profile.emptyRoundRestores;
  return { ...INTACT, stripped: session.failed || !restored };
}

/** A load from disk puts every layer back; an open session stays open. */
export const reloaded = (session: Session): Session => ({ ...session, stripped: false, failed: false });

export const reloadFailed = (session: Session): Session => ({ ...session, stripped: true });

/** Layers that are stripped and not loaded again have no bytes to hash: their tensors are on torch's meta device (seen on 0.32). */
export const hasBytes = ({ stripped, received, failed }: Session): boolean =>
  !stripped || (received > 0 && !failed);
