import { expect, test } from 'vitest';
import { count, duration, printable, rate, size } from '../../src/cli/format.js';
import { errorLines, renderReport } from '../../src/cli/summary.js';
import { engineReport, report } from './fakes.js';

test('the summary of a good update tells states, versions, proof, pause and throughput', () => {
  expect(renderReport(report(), false)).toBe(
    `updated to version 42 in 1.84 s: 2 engines
  weights   /checkpoints/step_42 (311 tensors, 1.19 GB, 2 files)
  digest    sha256 ${'ab'.repeat(32)}
  transfer  1.19 GB by nccl in 1.02 s, 1169 MB/s (5 frames; busy: read 510 ms, copy 300 ms, broadcast 900 ms)
  nccl      2.28.3, 5 ranks, /usr/lib/libnccl.so.2
  staging   537 MB device, 67.1 MB pinned
  pause     1.32 s
  engine    http://10.0.0.5:8000: serving-new, says version 42, by nccl, 2 workers, vllm 0.32.0, paused 1.31 s
            proof: digest, 620 of 622 parameters, the engine hashed for 812 ms
            not provable: model.rotary.inv_freq, model.rotary.cos (computed by the engine)
  engine    http://10.0.0.6:8000: serving-new, says version 42, by nccl, 2 workers, vllm 0.32.0, paused 1.31 s
            proof: digest, 620 of 622 parameters, the engine hashed for 812 ms
            not provable: model.rotary.inv_freq, model.rotary.cos (computed by the engine)
`,
  );
});

test('the summary of a failure tells what each engine does, why, and what to do', () => {
  const history = (state: 'paused' | 'quarantined', reason: string | null) => ({ state, atMs: 1, reason });
  const error = {
    code: 'WC_NCCL_TIMEOUT' as const,
    message: 'rank 3 did not receive',
    engine: 'http://10.0.0.5:8000',
    phase: 'transfer',
    remedy: 'Look at the engine.',
  };
  const failed = {
    state: 'quarantined' as const,
    pausedMs: null,
    weightVersion: null,
    transport: null,
    proof: null,
    history: [history('paused', null), history('quarantined', 'its update session is open')],
  };
  const other = { ...error, message: 'connection reset' };
  const text = renderReport(
    report({
      outcome: 'quarantined',
      engines: [
        engineReport({ ...failed, error }),
        engineReport({ ...failed, id: 'http://10.0.0.6:8000', error: other }),
        engineReport({ id: 'http://10.0.0.7:8000', state: 'serving-old', pausedMs: null }),
      ],
      pauseMs: null,
      transfer: null,
      error,
    }),
    false,
  );
  expect(text).toContain('quarantined 2 of 3 engines, which stay paused; 0 updated to version 42\n');
  expect(text).toContain(
    'engine    http://10.0.0.5:8000: quarantined, 2 workers, vllm 0.32.0\n            why: its update session is open\n',
  );
  expect(text).toContain('  pause     not over: see the engines\n');
  expect(text.split('rank 3 did not receive')).toHaveLength(2);
  expect(text).toContain('            error: connection reset [WC_NCCL_TIMEOUT]');
  expect(text).toContain('  remedy: Look at the engine.');
});

test('the code stands beside what went wrong, not beside the last line of what was tried', () => {
  const error = {
    code: 'WC_NCCL_NOT_FOUND' as const,
    message: 'libnccl.so.2 was not found; tried:\n  /a/libnccl.so.2\n  /b/libnccl.so.2',
    engine: null,
    phase: null,
    remedy: null,
  };
  expect(errorLines(error, false)).toEqual([
    'error: libnccl.so.2 was not found; tried: [WC_NCCL_NOT_FOUND]',
    '  /a/libnccl.so.2',
    '  /b/libnccl.so.2',
  ]);
});

test('an update that was interrupted before it learnt what engines serve says so once', () => {
  const error = {
    code: 'WC_UPDATE_ABORTED' as const,
    message: 'interrupted',
    engine: null,
    phase: 'preflight',
    remedy: 'Run it again.',
  };
  const unknown = { state: 'unknown' as const, history: [], proof: null };
  const aborted = engineReport({
    ...unknown,
    error: { ...error, message: 'interrupted by a signal', engine: 'http://10.0.0.5:8000' },
  });
  const text = renderReport(report({ outcome: 'failed', engines: [aborted], error }), false);
  expect(text).toContain('failed after 1.84 s: no engine was changed\n');
  expect(text.split('error:')).toHaveLength(2);

  const old = engineReport({ ...unknown, state: 'serving-old' });
  expect(renderReport(report({ outcome: 'failed', engines: [old], error }), false)).toContain(
    ': 1 of 1 engine serves the old version\n',
  );
});

test('an engine that an earlier push had left paused is reported as healed', () => {
  const history = [
    { state: 'quarantined' as const, atMs: 1, reason: 'found paused' },
    { state: 'serving-new' as const, atMs: 2, reason: null },
  ];
  expect(renderReport(report({ engines: [engineReport({ history })] }), false)).toContain(
    '            healed: found paused\n',
  );
});

test('an emulated update says so, in the last line', () => {
  const lines = renderReport(report({ emulated: true }), false)
    .trimEnd()
    .split('\n');
  expect(lines.at(-1)).toBe('EMULATED: no GPU, no NCCL; numbers say nothing about a GPU');
  expect(renderReport(report(), false)).not.toContain('EMULATED');
});

test('a mismatch is named, and of many names only the first', () => {
  const proof = { ...engineReport().proof!, mismatched: ['a', 'b', 'c', 'd', 'e'] };
  expect(renderReport(report({ engines: [engineReport({ proof })] }), false)).toContain(
    'MISMATCH: a, b, c and 2 more',
  );
});

test('text of an engine cannot steer the terminal', () => {
  const text = renderReport(report({ notes: ['\u001b[2J\u001b]0;owned\u0007 hello\r\u202e'] }), false);
  expect(text).toContain('note:  [2J ]0;owned  hello');
  expect([...'\u001b\u0007\r\u202e'].filter((steering) => text.includes(steering))).toEqual([]);
  expect(printable('x'.repeat(3000))).toHaveLength(2001);
});

test.each([
  [size(0), '0 B'],
  [size(999), '999 B'],
  [size(1_500_000), '1.50 MB'],
  [size(1_192_135_096), '1.19 GB'],
  [rate(1_168_760_878), '1169 MB/s'],
  [rate(1_500_000), '1.5 MB/s'],
  [duration(85.4), '85 ms'],
  [duration(1310), '1.31 s'],
  [duration(12_345), '12.3 s'],
  [duration(125_000), '2 min 5 s'],
  [count(1, 'engine'), '1 engine'],
  [count(2, 'engine'), '2 engines'],
])('%s', (shown, expected) => {
  expect(shown).toBe(expected);
});
