import { WeightcastError } from '../errors.js';
import type { UpdateEvent, UpdateReport } from '../update/types.js';
import { Interrupts, type SignalSource } from './interrupts.js';
import type { Io, Sink } from './io.js';
import { errorReport } from './outcome.js';
import { ProgressView } from './progress.js';
import { errorLines, renderReport } from './summary.js';

export interface MonitorOptions {
  readonly io: Io;
  readonly source: SignalSource;
  readonly exit: (code: number) => void;
  readonly flags: { readonly quiet?: boolean; readonly json?: boolean };
  /** What signals are told. Default: of engines, which must not be left paused. */
  readonly words?: InterruptWords;
}

export interface InterruptWords {
  /** After the second signal. */
  readonly waiting?: string;
  /** After the third one, which leaves at once, and what to do then. */
  readonly left: string;
  readonly remedy: string;
}

/** Of a command that asks nothing of engines. */
export const FILES_ONLY: InterruptWords = {
  waiting: 'still ending what was begun; a third signal leaves that for the next run to tidy up',
  left: 'left at once',
  remedy: 'Run the command again: it tidies up what was half done.',
};
const OF_ENGINES: InterruptWords = {
  left: 'left at once: engines may be paused',
  remedy: 'Push again to heal the engines.',
};

/** Progress and Ctrl-C of a command that updates engines: one listener for an update's events. */
export class Monitor {
  readonly #view: ProgressView | null;
  readonly #interrupts: Interrupts;
  readonly #io: Io;
  readonly #flags: MonitorOptions['flags'];
  /** An engine was paused, or more, since the update began. */
  #begun = false;
  /** The notes of this update that stderr has. */
  readonly #told = new Set<string>();

  constructor({ io, source, exit, flags, words = OF_ENGINES }: MonitorOptions) {
    this.#io = io;
    this.#flags = flags;
    this.#view = flags.quiet === true ? null : new ProgressView(io.err);
    this.#interrupts = new Interrupts({
      source,
      exit: (code) => {
        const { left, remedy } = words;
        const aborted = new WeightcastError('WC_UPDATE_ABORTED', left, { remedy });
        if (flags.json === true) io.out.write(`${JSON.stringify({ error: errorReport(aborted) })}\n`);
        exit(code);
      },
      begun: () => this.#begun,
      ...(words.waiting === undefined ? {} : { waiting: words.waiting }),
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

  /** An update ended so: for people on stderr unless all is well. `indent` is that of its JSON. */
  report(report: UpdateReport, indent = 0): void {
    this.ended();
    const { out, err } = this.#io;
    if (this.#flags.json === true) out.write(`${JSON.stringify(report, null, indent)}\n`);
    else if (report.outcome !== 'updated') this.render(report, err);
    else if (this.#flags.quiet !== true) this.render(report, out);
  }

  /** A version came to nothing, and the next may be tried. `about` stands beside the error in its JSON. */
  failed(error: unknown, about: Readonly<Record<string, string | number>>): void {
    this.ended();
    const { out, err } = this.#io;
    const plain = errorReport(error);
    if (this.#flags.json === true) out.write(`${JSON.stringify({ ...about, error: plain })}\n`);
    else err.write(`${errorLines(plain, err.color).join('\n')}\n`);
  }

  /** The report for people, without the notes that the reader of `sink` has seen when they came up. */
  render(report: UpdateReport, sink: Sink): void {
    const { err } = this.#io;
    const sameReader = sink === err || (sink.isTerminal && err.isTerminal);
    const told = this.#view !== null && sameReader ? this.#told : null;
    const notes = report.notes.filter((note) => told?.has(note) !== true);
    sink.write(renderReport({ ...report, notes }, sink.color));
  }

  [Symbol.dispose](): void {
    this.#view?.[Symbol.dispose]();
    this.#interrupts[Symbol.dispose]();
  }
}
