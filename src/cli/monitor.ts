import { WeightcastError } from '../errors.js';
import type { UpdateEvent } from '../update/types.js';
import { Interrupts, type SignalSource } from './interrupts.js';
import type { Io } from './io.js';
import { errorReport } from './outcome.js';
import { ProgressView } from './progress.js';

export interface MonitorOptions {
  readonly io: Io;
  readonly source: SignalSource;
  readonly exit: (code: number) => void;
  readonly flags: { readonly quiet?: boolean; readonly json?: boolean };
}

/** Progress and Ctrl-C of a command that updates engines: one listener for an update's events. */
export class Monitor {
  readonly #view: ProgressView | null;
  readonly #interrupts: Interrupts;
  readonly #io: Io;
  /** An engine was paused, or more, since the update began. */
  #begun = false;

  constructor({ io, source, exit, flags }: MonitorOptions) {
    this.#io = io;
    this.#view = flags.quiet === true ? null : new ProgressView(io.err);
    this.#interrupts = new Interrupts({
      source,
      exit: (code) => {
        const aborted = new WeightcastError('WC_UPDATE_ABORTED', 'left at once: engines may be paused', {
          remedy: 'Push again to heal the engines.',
        });
        if (flags.json === true) io.out.write(`${JSON.stringify({ error: errorReport(aborted) })}\n`);
        exit(code);
      },
      begun: () => this.#begun,
      say: (text) => this.say(text),
    });
  }

  get signal(): AbortSignal {
    return this.#interrupts.signal;
  }

  readonly onEvent = (event: UpdateEvent): void => {
    if (event.kind === 'phase' && event.phase === 'pause') this.#begun = true;
    if (event.kind === 'engine' && event.state !== 'unknown' && event.state !== 'serving-old')
      this.#begun = true;
    this.#view?.event(event);
  };

  /** A lasting line on stderr. */
  say(text: string): void {
    if (this.#view === null) this.#io.err.write(`${text}\n`);
    else this.#view.line(text);
  }

  /** An update ended: the progress line goes, and the engines are in a defined state again. */
  ended(): void {
    this.#view?.idle();
    this.#begun = false;
  }

  [Symbol.dispose](): void {
    this.#view?.[Symbol.dispose]();
    this.#interrupts[Symbol.dispose]();
  }
}
