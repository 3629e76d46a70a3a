import { setMaxListeners } from 'node:events';
import { WeightcastError } from '../errors.js';
import { EXIT } from './outcome.js';

/** What {@link Interrupts} needs of `process`. */
export interface SignalSource {
  on(event: NodeJS.Signals, listener: () => void): unknown;
  off(event: NodeJS.Signals, listener: () => void): unknown;
}

export interface InterruptsOptions {
  readonly source: SignalSource;
  /** Writes a line for the user. */
  readonly say: (text: string) => void;
  /** Whether any engine may have been paused or changed. */
  readonly begun: () => boolean;
  /** What a second signal is told; default: that engines are being left in a defined state. */
  readonly waiting?: string;
  /** Ends the process now. */
  readonly exit: (code: number) => void;
}

// SIGHUP too: a closed terminal must not leave engines paused.
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

const WAITING =
  'still waiting for the engines to be left in a defined state; a third signal leaves them as they are';

/**
 * Ctrl-C in three steps: the first aborts the update, which ends in a defined state; the second says that this takes a
 * moment; the third leaves at once, with a warning.
 */
export class Interrupts {
  readonly #options: InterruptsOptions;
  readonly #controller = new AbortController();
  readonly #listener = () => this.#next();
  #received = 0;

  constructor(options: InterruptsOptions) {
    this.#options = options;
    // Every request of every engine listens: many at once are no leak.
    setMaxListeners(0, this.#controller.signal);
    for (const signal of SIGNALS) options.source.on(signal, this.#listener);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  [Symbol.dispose](): void {
    for (const signal of SIGNALS) this.#options.source.off(signal, this.#listener);
  }

  #next(): void {
    this.#received += 1;
    const { say, begun, exit } = this.#options;
    if (this.#received === 1) {
      say(begun() ? 'interrupted: leaving the engines in a defined state …' : 'interrupted');
      const remedy = 'Nothing had begun: run the command again.';
      this.#controller.abort(new WeightcastError('WC_UPDATE_ABORTED', 'interrupted by a signal', { remedy }));
    } else if (this.#received === 2) {
      say(this.#options.waiting ?? WAITING);
    } else if (begun()) {
      say('WARNING: left at once: engines may be paused or hold half an update. Push again to heal them.');
      exit(EXIT.quarantined);
    } else {
      exit(EXIT.interrupted);
    }
  }
}
