/**
 * Calls of rank 0's own libraries that never return, in a push of its own process: it ends at its deadlines and says which call it was, engines are left as
 * after any other failure, and the process ends. What the addon makes of each call is in test/native/traps-hang.test.ts.
 */
import { readdir, readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import type { UpdateReport } from '../../../src/update/types.js';
import { MAIN, Spawned, weightcast } from '../../cli/spawned.js';
import { answer, type Bench, isPaused, withBench } from '../support.js';
import { at } from './support.js';

const TIMEOUT_SECONDS = 3;
/** All phases to their deadlines, the start and the end of a process, and a busy machine: a call that is waited for takes a minute. */
const LIMIT_MS = 40_000;

async function push({ urls }: Bench, weights: string, faults: string, ...more: string[]) {
  const began = performance.now();
  const limits = ['--timeout-rendezvous', '--timeout-update'].flatMap((name) => [
    name,
    String(TIMEOUT_SECONDS),
  ]);
  const options = ['--emulate', '--packed-buffer-bytes', '50000', '--no-guardian', '--json', ...limits];
  const { code, out, err } = await weightcast(['push', weights, '-e', at(urls, 0), ...options, ...more], {
    WEIGHTCAST_EMULATOR_FAULTS: faults,
  });
  expect(performance.now() - began).toBeLessThan(LIMIT_MS);
  if (out === '') throw new Error(err);
  return { code, report: JSON.parse(out) as UpdateReport };
}

/** A call that hangs is given up after a minute. */
const AT_ONCE_MS = 20_000;

async function threadsOf(pid: number): Promise<string[]> {
  const tasks = await readdir(`/proc/${pid}/task`);
  const names = tasks.map((task) => readFile(`/proc/${pid}/task/${task}/comm`, 'utf8').catch(() => ''));
  return (await Promise.all(names)).map((name) => name.trim());
}

const serves = async ({ urls }: Bench) => [await isPaused(at(urls, 0)), await answer(at(urls, 0))] as const;

it.each([
  'hang=cuMemGetInfo',
  'hang=ncclGetUniqueId',
  'hang=ncclCommGetAsyncError',
  'hang=cuEventQuery',
  'hang=cuMemHostAlloc',
])('%s before the pause: nobody is paused, and the call is named', { timeout: 120_000 }, async (fault) => {
  await withBench({ engines: 1, workers: 1 }, async (bench) => {
    const before = await serves(bench);
    const { code, report } = await push(bench, bench.b, fault);
    expect(code).toBe(1);
    expect(report.error).toMatchObject({ code: 'WC_NATIVE_STUCK', phase: expect.any(String) });
    expect(report.error?.message).toContain(`${fault.slice('hang='.length)} has not returned`);
    expect(report.pauseMs).toBeNull();
    expect(await serves(bench)).toEqual(before);
  });
});

it('a copy that hangs before the pause pauses nobody, and is named', { timeout: 120_000 }, async () => {
  await withBench({ engines: 1, workers: 1 }, async (bench) => {
    const before = await serves(bench);
    // The first two are the all-reduce of the rendezvous.
    const { code, report } = await push(bench, bench.b, 'hang-in-copy=3');
    expect([code, report.error?.code, report.pauseMs]).toEqual([1, 'WC_NATIVE_STUCK', null]);
    expect(report.error?.message).toContain('a copy on device 0 did not end');
    expect(await serves(bench)).toEqual(before);
  });
});

it.each([
  ['an init that hangs', 'hang=ncclCommInitRankConfig', 'WC_NATIVE_STUCK'],
  ['an init that fails at rank 0 alone', 'driver-too-old', 'WC_NCCL_FAILED'],
  ['an init whose abort hangs too', 'missing-peer,hang=ncclCommAbort', 'WC_NCCL_TIMEOUT'],
])(
  '%s leaves the workers in NCCL: this push says so, does not pause the fleet to load files, and the next one knows why nothing answers',
  {
    timeout: 120_000,
  },
  async (_, fault, code) => {
    await withBench({ engines: 1, workers: 1 }, async (bench) => {
      const remedy = expect.stringMatching(/^Restart it/);
      const failed = await push(bench, bench.b, fault, '--fallback', 'filesystem');
      expect(failed).toMatchObject({
        code: 1,
        report: {
          ...{ error: { code }, pauseMs: null },
          notes: [expect.stringContaining('no fallback to files')],
          engines: [
            {
              state: 'unknown',
              error: { message: expect.stringContaining('wait for a rank that does not come'), remedy },
            },
          ],
        },
      });
      const ended = expect.stringMatching(
        /the push of .* ended while this engine joined .*wait for a rank that is gone/,
      );
      // Each of them: what one found must not be forgotten.
      for (let again = 0; again < 2; again += 1) {
        const next = await push(bench, bench.c, '', '--timeout-probe', '1');
        const error = { code: 'WC_ENGINE_TIMEOUT', message: ended, engine: at(bench.urls, 0), remedy };
        expect(next).toMatchObject({ code: 1, report: { error } });
      }
      await at(bench.engines, 0).reset();
      expect(await push(bench, bench.c, '')).toMatchObject({ code: 0, report: { error: null } });
    });
  },
);

it.each([
  ['hang=cuInit', 'preflight', 'wc-helper'],
  ['hang=cuMemGetInfo', 'rendezvous', 'wc-helper'],
  ['hang=cuStreamCreate', 'rendezvous', 'wc-communicator'],
  ['hang-in-copy=3', 'stage', 'wc-communicator'],
])(
  '%s does not keep a push that is interrupted, nor its process',
  {
    timeout: 120_000,
  },
  async (fault, phase, thread) => {
    await withBench({ engines: 1, workers: 1 }, async (bench) => {
      const before = await serves(bench);
      const args = ['push', bench.b, '-e', at(bench.urls, 0), '--emulate', '--no-guardian', '--json'];
      await using pushing = new Spawned([MAIN, ...args], { WEIGHTCAST_EMULATOR_FAULTS: fault });
      await pushing.err.seen(phase);
      await expect.poll(() => threadsOf(pushing.pid)).toContain(thread);
      const began = performance.now();
      pushing.signal('SIGINT');
      const { code, out } = await pushing.ended;
      expect(performance.now() - began).toBeLessThan(AT_ONCE_MS);
      expect([code, (JSON.parse(out) as UpdateReport).error?.code]).toEqual([130, 'WC_UPDATE_ABORTED']);
      expect(await serves(bench)).toEqual(before);
    });
  },
);

it('a broadcast that hangs leaves the engine paused and named, and the next push heals it', {
  timeout: 120_000,
}, async () => {
  await withBench({ engines: 1, workers: 1 }, async (bench) => {
    const { code, report } = await push(bench, bench.b, 'hang=ncclBroadcast');
    expect([code, report.error?.code]).toEqual([3, 'WC_NATIVE_STUCK']);
    expect(report.engines.map(({ state }) => state)).toEqual(['quarantined']);
    expect(await isPaused(at(bench.urls, 0))).toBe(true);
    const next = await push(bench, bench.c, '');
    expect([next.code, next.report.error]).toEqual([0, null]);
    expect(await isPaused(at(bench.urls, 0))).toBe(false);
  });
});

it.each(['ncclCommDestroy', 'cuMemFreeHost'])(
  '%s that hangs when all is done holds up nobody',
  { timeout: 120_000 },
  async (call) => {
    await withBench({ engines: 1, workers: 1 }, async (bench) => {
      const { code, report } = await push(bench, bench.b, `hang=${call}`);
      expect([code, report.error]).toEqual([0, null]);
      expect(await isPaused(at(bench.urls, 0))).toBe(false);
    });
  },
);
