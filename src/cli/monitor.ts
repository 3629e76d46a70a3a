import { WeightcastError } from '../errors.js';
import type { UpdateEvent, UpdateReport } from '../update/types.js';
import { Interrupts, type SignalSource } from './interrupts.js';
import type { Io, Sink } from './io.js';
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
  /** The notes of this update that stderr has. */
  readonly #told = new Set<string>();

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
    if (event.kind === 'phase' && event.phase === 'preflight') this.#told.clear();
    if (event.kind === 'note') this.#told.add(event.text);
    this.#view?.event(event);
  };

  /** The report for `sink`, without the notes that its reader has seen when they came up. */
  untold(report: UpdateReport, sink: Sink): UpdateReport {
    const { err } = this.#io;
    const sameReader = sink === err || (sink.isTerminal && err.isTerminal);
    if (this.#view === null || !sameReader) return report;
    return { ...report, notes: report.notes.filter((note) => !this.#told.has(note)) };
  }

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
