/** What a session tells its guardian, one JSON line each; the engines' secrets travel here and nowhere else. */
import type { PushFacts } from '../claim/record.js';
import type { FleetOptions } from '../types.js';

export interface GuardMessage {
  readonly kind: 'guard';
  /** Record of the update. */
  readonly id: string;
  readonly push: PushFacts;
  /** All that a recovery needs of a session's options. */
  readonly fleet: FleetOptions & { readonly stateDir: string };
}

/** The update has ended: nothing is to be done when the pipe closes. */
export interface IdleMessage {
  readonly kind: 'idle';
}

export type GuardianMessage = GuardMessage | IdleMessage;
