import { describe, expect, test } from 'vitest';
import { ProgressView } from '../../src/cli/progress.js';
import { fakeSink } from './fakes.js';

function view(sink: ReturnType<typeof fakeSink>) {
  let now = 0;
  const progress = new ProgressView(sink, () => now);
  return {
    progress,
    at: (ms: number) => {
      now = ms;
      return progress;
    },
  };
}

const transferred = (bytes: number) =>
  ({ kind: 'progress', phase: 'transfer', bytes, totalBytes: 1_000_000_000 }) as const;

describe('on a terminal', () => {
  test('one line is redrawn at most ten times a second and cleared at the end', () => {
    const sink = fakeSink({ isTerminal: true });
    const { progress, at } = view(sink);
    at(0).event({ kind: 'phase', phase: 'transfer' });
    for (let ms = 1; ms <= 1000; ms += 1) at(ms).event(transferred(ms * 500_000));
    progress[Symbol.dispose]();
    expect(sink.writes.length).toBeLessThanOrEqual(12);
    expect(
      sink.writes.every((text) => text.startsWith('\r') && text.endsWith('\u001b[K') && !text.includes('\n')),
    ).toBe(true);
    expect(sink.writes.at(-1)).toBe('\r\u001b[K');
    expect(sink.writes.at(-2)).toBe('\rtransfer  500 MB of 1.00 GB  50%  500 MB/s  ETA 1.00 s\u001b[K');
  });

  test('a line never wraps', () => {
    const sink = fakeSink({ isTerminal: true, columns: 20 });
    const { progress, at } = view(sink);
    at(200).event(transferred(5_000_000));
    at(400).event(transferred(9_000_000));
    progress[Symbol.dispose]();
    expect(sink.writes.slice(0, 2)).toEqual(['\rtransfer\u001b[K', '\rtransfer  9.00 MB o\u001b[K']);
  });

  test('a lasting line is written above it', () => {
    const sink = fakeSink({ isTerminal: true });
    const { progress, at } = view(sink);
    at(0).event({ kind: 'phase', phase: 'pause' });
    at(10).event({ kind: 'note', text: 'newer than the table' });
    progress[Symbol.dispose]();
    expect(sink.text()).toBe('\rpause\u001b[K\r\u001b[Knote: newer than the table\n');
  });
});

describe('without a terminal', () => {
  test('a line at each phase, and every five seconds while bytes move', () => {
    const sink = fakeSink();
    const { at } = view(sink);
    at(0).event({ kind: 'phase', phase: 'pause' });
    at(100).event({ kind: 'phase', phase: 'transfer' });
    for (let ms = 200; ms <= 10_200; ms += 100) at(ms).event(transferred(ms * 50_000));
    expect(sink.text()).toBe(
      [
        'pause',
        'transfer',
        'transfer  255 MB of 1.00 GB  25%  50 MB/s  ETA 14.9 s',
        'transfer  505 MB of 1.00 GB  50%  50 MB/s  ETA 9.90 s',
        '',
      ].join('\n'),
    );
  });

  test('a quarantined engine is named with the reason', () => {
    const sink = fakeSink();
    const { at } = view(sink);
    at(0).event({ kind: 'engine', engine: 'http://a', state: 'paused', reason: null });
    at(0).event({ kind: 'engine', engine: 'http://a', state: 'quarantined', reason: 'no\u001banswer' });
    expect(sink.text()).toBe('quarantined http://a: no answer\n');
  });
});
