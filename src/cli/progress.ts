import type { UpdateEvent } from '../update/types.js';
import { duration, paint, printable, rate, size } from './format.js';
import type { Sink } from './io.js';

const REDRAW_MS = 100;
const PLAIN_LINE_MS = 5000;
const RATE_WINDOW_MS = 3000;

interface Sample {
  readonly atMs: number;
  readonly bytes: number;
}

/** Of an update, or of another command with phases of its own. */
export type ProgressEvent =
  | Exclude<UpdateEvent, { kind: 'phase' | 'progress' }>
  | { readonly kind: 'phase'; readonly phase: string }
  | {
      readonly kind: 'progress';
      readonly phase: string;
      readonly bytes: number;
      readonly totalBytes: number;
    };

/**
 * Says what an update is doing: one line, redrawn at most ten times a second, on a terminal; otherwise a line at each
 * phase and every five seconds while bytes move.
 */
export class ProgressView {
  readonly #sink: Sink;
  readonly #now: () => number;
  readonly #timer: NodeJS.Timeout | null;
  #phase: string | null = null;
  #phaseSince = 0;
  #samples: Sample[] = [];
  #totalBytes = 0;
  #writtenAt = Number.NEGATIVE_INFINITY;
  #lineShown = false;

  constructor(sink: Sink, now: () => number = () => performance.now()) {
    this.#sink = sink;
    this.#now = now;
    // Phases without bytes (an engine that drains its requests) still show that time passes.
    this.#timer = sink.isTerminal ? setInterval(() => this.#draw(), 500).unref() : null;
  }

  event(event: ProgressEvent): void {
    switch (event.kind) {
      case 'phase':
        this.#enter(event.phase);
        break;
      case 'progress':
        if (event.phase !== this.#phase) this.#enter(event.phase);
        this.#sample(event.bytes, event.totalBytes);
        break;
      case 'engine':
        if (event.state === 'quarantined') {
          const why = event.reason === null ? '' : `: ${printable(event.reason)}`;
          this.line(`${paint(this.#sink.color, 'red', 'quarantined')} ${printable(event.engine)}${why}`);
        }
        break;
      case 'note':
        this.line(`note: ${printable(event.text)}`);
    }
  }

  /** Writes a lasting line; the progress line comes back below it. */
  line(text: string): void {
    this.clear();
    this.#sink.write(`${text}\n`);
  }

  clear(): void {
    if (this.#lineShown) this.#sink.write('\r\u001b[K');
    this.#lineShown = false;
  }

  /** Clears the line until the next event. */
  idle(): void {
    this.#phase = null;
    this.clear();
  }

  /** Clears the line and stops; harmless twice. */
  [Symbol.dispose](): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.idle();
  }

  #enter(phase: string): void {
    this.#phase = phase;
    this.#phaseSince = this.#now();
    this.#samples = [];
    this.#totalBytes = 0;
    if (this.#sink.isTerminal) this.#draw();
    else this.#plain();
  }

  #sample(bytes: number, totalBytes: number): void {
    const atMs = this.#now();
    this.#totalBytes = totalBytes;
    this.#samples.push({ atMs, bytes });
    while (this.#samples.length > 2 && atMs - this.#samples[1]!.atMs > RATE_WINDOW_MS) this.#samples.shift();
    if (this.#sink.isTerminal) this.#draw();
    else if (atMs - this.#writtenAt >= PLAIN_LINE_MS) this.#plain();
  }

  #plain(): void {
    this.#writtenAt = this.#now();
    this.#sink.write(`${this.#text()}\n`);
  }

  #draw(): void {
    const now = this.#now();
    if (this.#phase === null || now - this.#writtenAt < REDRAW_MS) return;
    this.#writtenAt = now;
    this.#lineShown = true;
    // One column stays free: a full line would wrap, and \r would no longer reach its start.
    this.#sink.write(`\r${this.#text().slice(0, Math.max(1, this.#sink.columns - 1))}\u001b[K`);
  }

  #text(): string {
    const last = this.#samples.at(-1);
    if (last === undefined) {
      const elapsed = this.#now() - this.#phaseSince;
      return elapsed < 1000 ? `${this.#phase}` : `${this.#phase}  ${duration(elapsed)}`;
    }
    const percent = this.#totalBytes > 0 ? Math.floor((100 * last.bytes) / this.#totalBytes) : 100;
    const parts = [`${this.#phase}`, `${size(last.bytes)} of ${size(this.#totalBytes)}`, `${percent}%`];
    const speed = this.#bytesPerSecond(last);
    if (speed > 0) {
      parts.push(rate(speed), `ETA ${duration((1000 * Math.max(0, this.#totalBytes - last.bytes)) / speed)}`);
    }
    return parts.join('  ');
  }

  #bytesPerSecond(last: Sample): number {
    const first = this.#samples[0]!;
    const base = this.#samples.length > 1 ? first : { atMs: this.#phaseSince, bytes: 0 };
    const elapsed = last.atMs - base.atMs;
    return elapsed > 0 ? (1000 * (last.bytes - base.bytes)) / elapsed : 0;
  }
}
