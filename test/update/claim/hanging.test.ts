/** A state directory on a filesystem that stops answering, and answers again later. */
import type { PathLike } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { expect, it, vi } from 'vitest';
import { claimEngines } from '../../../src/update/claim/claim.js';
import { HEARTBEAT_MS } from '../../../src/update/claim/records.js';
import { STALL_MS } from '../../../src/waits.js';
import { A, request, withFolder } from './support.js';

const filesystem = vi.hoisted(() => ({
  answers: null as Promise<void> | null,
  heartbeatsInFlight: 0,
}));

vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof import('node:fs/promises')>();
  const open = async (path: PathLike, flags?: string | number, mode?: number) => {
    if (flags === 'r+') {
      filesystem.heartbeatsInFlight += 1;
      await filesystem.answers;
      filesystem.heartbeatsInFlight -= 1;
    }
    const handle = await real.open(path, flags, mode);
    const append = handle.appendFile.bind(handle);
    handle.appendFile = async (text) => {
      await filesystem.answers;
      return append(text);
    };
    return handle;
  };
  return { ...real, open };
});

/** Runs `body` while nothing is answered; then all is. */
async function whileItHangs(body: () => Promise<void>): Promise<void> {
  let answer = () => {};
  filesystem.answers = new Promise((resolve) => {
    answer = resolve;
  });
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] });
  try {
    await body();
  } finally {
    vi.useRealTimers();
    filesystem.answers = null;
    answer();
  }
}

const STALLED = { code: 'WC_STATE_DIR', message: expect.stringContaining('no answer within') };

it('nothing waits for longer than for one write; the record goes when the filesystem works again', async () => {
  await withFolder(async (directory) => {
    const { record, release } = await claimEngines(request(directory, [A]));
    await whileItHangs(async () => {
      const first = expect(record.write({ event: 'joined' })).rejects.toMatchObject(STALLED);
      await vi.advanceTimersByTimeAsync(STALL_MS);
      await first;
      // These don't wait at all: no time passes any more.
      await expect(record.ask('pause', [A])).rejects.toMatchObject(STALLED);
      await expect(record.flush()).rejects.toMatchObject(STALLED);
      await expect(release()).rejects.toMatchObject(STALLED);
      expect(await readdir(directory)).toHaveLength(1);
    });
    await vi.waitFor(async () => expect(await readdir(directory)).toEqual([]));
  });
});

it('one heartbeat at a time waits for it, however long it hangs', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  await withFolder(async (directory) => {
    const { release } = await claimEngines(request(directory, [A]));
    let answer = () => {};
    filesystem.answers = new Promise((resolve) => {
      answer = resolve;
    });
    await vi.advanceTimersByTimeAsync(10 * HEARTBEAT_MS);
    expect(filesystem.heartbeatsInFlight).toBe(1);
    filesystem.answers = null;
    answer();
    vi.useRealTimers();
    await release();
  });
});

it('a claim is not waited for either, and one that comes late is let go of', async () => {
  await withFolder(async (directory) => {
    await whileItHangs(async () => {
      const refused = expect(claimEngines(request(directory, [A]))).rejects.toMatchObject(STALLED);
      await vi.waitFor(async () => expect(await readdir(directory)).toHaveLength(1));
      await vi.advanceTimersByTimeAsync(STALL_MS);
      await refused;
    });
    await vi.waitFor(async () => expect(await readdir(directory)).toEqual([]));
  });
});
