/** Weights on a file system that stops answering while engines are paused. */
import type { PathLike, StatOptions } from 'node:fs';
import { expect, it, vi } from 'vitest';
import { checkpointIdentity } from '../../src/weights/identity.js';
import { Gate } from '../faults/gate.js';
import { failedReport, isPaused, withBench } from './support.js';

const filesystem = vi.hoisted(() => ({ hangs: '', asked: 0 }));

vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof import('node:fs/promises')>();
  const stat = (path: PathLike, options?: StatOptions) => {
    if (filesystem.hangs === '' || !String(path).startsWith(filesystem.hangs))
      return real.stat(path, options);
    filesystem.asked += 1;
    return new Promise(() => {});
  };
  return { ...real, stat };
});

/** Until the file system is given up, and a little for the rest. */
const LIMIT_MS = 90_000;

it.each([
  ['before they load: they serve the old version', '/pause', { outcome: 'failed' }, 'serving-old', false],
  ['while they load: they stay out', '/collective_rpc', { outcome: 'quarantined' }, 'quarantined', true],
] as const)(
  'an update ends whose files hang %s',
  async (_, path, outcome, state, paused) => {
    await withBench({ engines: 1, workers: 1 }, async ({ connect, urls, b }) => {
      const gate = await Gate.open(urls[0] as string);
      gate.decide((seen) => {
        if (seen.path !== path) return null;
        const after = async () => {
          filesystem.hangs = b;
        };
        return { forward: 'now', reply: { kind: 'pass' }, after };
      });
      const session = await connect({ engines: [gate.url], transport: 'filesystem', verify: 'none' });
      try {
        const report = await failedReport(session.update(b));
        expect(report).toMatchObject({ ...outcome, error: { code: 'WC_FILE_READ' }, engines: [{ state }] });
        expect(report.error?.message).toContain('no answer within 15000 ms');
        expect(await isPaused(urls[0] as string)).toBe(paused);
        // Node's pool has four threads, and names of hosts need one.
        expect(filesystem.asked).toBeLessThanOrEqual(3);
      } finally {
        filesystem.hangs = '';
        filesystem.asked = 0;
        await session.close();
        await gate.close();
      }
    });
  },
  LIMIT_MS,
);

it('which files they are is not waited for either', async () => {
  filesystem.hangs = '/weights';
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  try {
    const identity = checkpointIdentity('/weights');
    await vi.advanceTimersByTimeAsync(15_000);
    expect(await identity).toBeNull();
  } finally {
    vi.useRealTimers();
    filesystem.hangs = '';
    filesystem.asked = 0;
  }
});
