import type { SignalSource } from './interrupts.js';
import type { Io } from './io.js';
import type { Connect } from './session.js';

/** What a command gets from its process; tests pass their own. */
export interface CommandContext {
  readonly io: Io;
  /** Where signals come from. */
  readonly source: SignalSource;
  /** Ends the process at once. */
  readonly exit: (code: number) => void;
  readonly connect: Connect;
}
