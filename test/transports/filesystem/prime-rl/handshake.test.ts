/** Both halves of prime-rl's handshake, against a process that plays the other half as the contract has it. */
import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import {
  answerAnnouncement,
  awaitAnnouncement,
  fileSystemNow,
  nextAnnouncement,
  positionAfter,
  primeRlSend,
  watchFrom,
} from '../../../../src/transports/filesystem/prime-rl/index.js';
import { errorOf, expectCode } from '../../../engines/client.js';
import { startPeer } from './peer.js';

const GENERATIONS = ['stable', 'dotfiles'] as const;

async function withRun(use: (broadcasts: string) => Promise<void>): Promise<void> {
  const run = await mkdtemp(join(tmpdir(), 'weightcast-run-'));
  try {
    await use(join(run, 'broadcasts'));
  } finally {
    await rm(run, { recursive: true });
  }
}

/** Makes markers, `ageMs` old. */
async function mark(
  broadcasts: string,
  version: number,
  markers: readonly string[],
  ageMs = 0,
): Promise<void> {
  const folder = join(broadcasts, `step_${version}`);
  await mkdir(folder, { recursive: true });
  const time = new Date(Date.now() - ageMs);
  for (const marker of markers) {
    await writeFile(join(folder, marker), '');
    await utimes(join(folder, marker), time, time);
  }
}

const markersOf = async (broadcasts: string, version: number) =>
  (await readdir(join(broadcasts, `step_${version}`))).sort();

describe('primeRlSend', () => {
  it.each(GENERATIONS)(
    'sends once an orchestrator of the %s markers has paused its engines',
    async (generation) => {
      await withRun(async (broadcasts) => {
        const peer = startPeer('orchestrator', generation, broadcasts, 3);
        const sent = await primeRlSend(
          { broadcasts, version: 3, timeoutMs: 30_000, pollMs: 5 },
          async (answer) => {
            expect(await peer.next()).toBe('paused');
            if (generation === 'dotfiles') expect(await markersOf(broadcasts, 3)).not.toContain('.finished');
            return answer.generation;
          },
        );
        expect(sent).toBe(generation);
        expect(await peer.rest()).toEqual(generation === 'dotfiles' ? ['started', 'finished'] : []);
      });
    },
  );

  it('does not take the answer that a run before got for its own', async () => {
    await withRun(async (broadcasts) => {
      await mark(broadcasts, 3, ['STABLE', 'NCCL_READY', '.sender_ready', '.receiver_ready'], 60_000);
      let sent = false;
      const sending = primeRlSend({ broadcasts, version: 3, timeoutMs: 100, pollMs: 5 }, async () => {
        sent = true;
      });
      await expectCode(sending, 'WC_RENDEZVOUS_TIMEOUT');
      expect(sent).toBe(false);
    });
  });

  it('takes away what a killed run announced and will never send, and no weights', async () => {
    await withRun(async (broadcasts) => {
      await mark(broadcasts, 2, ['STABLE', 'NCCL_READY']);
      await mark(broadcasts, 4, ['STABLE', '.sender_ready', 'model.safetensors']);
      const peer = startPeer('orchestrator', 'stable', broadcasts, 3);
      await primeRlSend({ broadcasts, version: 3, timeoutMs: 30_000, pollMs: 5 }, async () => {});
      await peer.rest();
      expect(await markersOf(broadcasts, 4)).toEqual(['model.safetensors']);
      expect(await markersOf(broadcasts, 2)).toEqual(['NCCL_READY', 'STABLE']);
    });
  });

  it.each([
    ['nobody answers', { timeoutMs: 50 }, 'WC_RENDEZVOUS_TIMEOUT'],
    ['it is interrupted', { signal: AbortSignal.timeout(50), timeoutMs: 30_000 }, 'WC_UPDATE_ABORTED'],
  ] as const)('leaves nothing behind that an orchestrator would follow when %s', async (_, options, code) => {
    await withRun(async (broadcasts) => {
      const sending = primeRlSend(
        { broadcasts, version: 3, pollMs: 5, withdrawMs: 50, ...options },
        async () => {},
      );
      expect((await errorOf(sending)).code).toBe(code);
      expect(await markersOf(broadcasts, 3)).toEqual([]);
      expect(await nextAnnouncement(broadcasts, watchFrom(0))).toBeNull();
    });
  });

  it('sends what an orchestrator answers that had seen the announcement before it was taken back: its engines wait for it', async () => {
    await withRun(async (broadcasts) => {
      const stop = new AbortController();
      const sending = primeRlSend(
        { broadcasts, version: 3, timeoutMs: 30_000, withdrawMs: 30_000, pollMs: 5, signal: stop.signal },
        async ({ generation }) => generation,
      );
      await awaitAnnouncement(broadcasts, watchFrom(0), { timeoutMs: 30_000, pollMs: 5 });
      stop.abort();
      const withdrawn = async () => (await markersOf(broadcasts, 3)).length === 0;
      await vi.waitUntil(withdrawn, { timeout: 30_000, interval: 5 });
      // prime-rl's own orchestrator does not look again between the pause and this.
      await mark(broadcasts, 3, ['NCCL_READY']);
      expect(await sending).toBe('stable');
    });
  });

  it('says nothing is finished that failed', async () => {
    await withRun(async (broadcasts) => {
      const sending = primeRlSend({ broadcasts, version: 3, timeoutMs: 30_000, pollMs: 5 }, async () => {
        throw new Error('NCCL failed');
      });
      sending.catch(() => {});
      await awaitAnnouncement(broadcasts, watchFrom(0), { timeoutMs: 30_000, pollMs: 5 });
      await mark(broadcasts, 3, ['.receiver_ready']);
      await expect(sending).rejects.toThrow('NCCL failed');
      // Nor announced: nobody will send it.
      expect(await markersOf(broadcasts, 3)).toEqual([]);
    });
  });
});

describe('the orchestrator', () => {
  const wait = { timeoutMs: 30_000, pollMs: 5 };

  it.each(GENERATIONS)(
    'lets a trainer of the %s markers send once its engines are paused',
    async (generation) => {
      await withRun(async (broadcasts) => {
        const sinceMs = await fileSystemNow(broadcasts);
        const trainer = startPeer('trainer', generation, broadcasts, 7);
        const announcement = await awaitAnnouncement(broadcasts, watchFrom(sinceMs), wait);
        expect(announcement).toMatchObject({ version: 7, generation, adapter: false });
        expect(await trainer.next()).toBe('announced');
        expect(await answerAnnouncement(announcement)).toBe(true);
        expect(await trainer.rest()).toEqual(['sending']);
        const done = positionAfter(announcement, watchFrom(sinceMs));
        expect(await nextAnnouncement(broadcasts, done)).toBeNull();
      });
    },
  );

  it('waits for a trainer that is not there yet, and goes on where it is', async () => {
    await withRun(async (broadcasts) => {
      const waiting = awaitAnnouncement(broadcasts, watchFrom(0), wait);
      await mark(broadcasts, 1, ['STABLE']);
      expect((await waiting).version).toBe(1);
    });
  });

  it('does not send engines into a receive for what a killed trainer announced', async () => {
    await withRun(async (broadcasts) => {
      await mark(broadcasts, 9, ['STABLE'], 60_000);
      const sinceMs = await fileSystemNow(broadcasts);
      expect(await nextAnnouncement(broadcasts, watchFrom(sinceMs))).toBeNull();
      // The trainer that was started again goes on from an earlier step.
      const trainer = startPeer('trainer', 'stable', broadcasts, 8);
      const announcement = await awaitAnnouncement(broadcasts, watchFrom(sinceMs), wait);
      expect(announcement.version).toBe(8);
      await answerAnnouncement(announcement);
      await trainer.rest();
    });
  });

  it('goes straight to the newest, and follows a trainer that announces a version again', async () => {
    await withRun(async (broadcasts) => {
      await mark(broadcasts, 2, ['STABLE'], 9_000);
      await mark(broadcasts, 10, ['STABLE'], 8_000);
      await mark(broadcasts, 11, [], 7_000);
      const first = await nextAnnouncement(broadcasts, watchFrom(0));
      expect(first?.version).toBe(10);
      const position = positionAfter(first as NonNullable<typeof first>, watchFrom(0));
      expect(await nextAnnouncement(broadcasts, position)).toBeNull();
      await mark(broadcasts, 10, ['STABLE']);
      expect((await nextAnnouncement(broadcasts, position))?.version).toBe(10);
    });
  });

  it('answers no announcement that was withdrawn, made anew, or cleaned away', async () => {
    await withRun(async (broadcasts) => {
      await mark(broadcasts, 5, ['STABLE'], 5_000);
      const announcement = (await nextAnnouncement(broadcasts, watchFrom(0))) as NonNullable<
        Awaited<ReturnType<typeof nextAnnouncement>>
      >;
      await mark(broadcasts, 5, ['STABLE']);
      expect(await answerAnnouncement(announcement)).toBe(false);
      await rm(join(broadcasts, 'step_5'), { recursive: true });
      expect(await answerAnnouncement(announcement)).toBe(false);
      expect(await readdir(broadcasts)).toEqual([]);
    });
  });

  it('tells an adapter from a model', async () => {
    await withRun(async (broadcasts) => {
      await mark(broadcasts, 1, ['adapter_config.json', 'adapter_model.safetensors', 'STABLE']);
      expect(await nextAnnouncement(broadcasts, watchFrom(0))).toMatchObject({ version: 1, adapter: true });
    });
  });

  it('ends at its deadline and at the signal', async () => {
    await withRun(async (broadcasts) => {
      const options = { timeoutMs: 40, pollMs: 5 };
      await expectCode(awaitAnnouncement(broadcasts, watchFrom(0), options), 'WC_RENDEZVOUS_TIMEOUT');
      const signal = AbortSignal.timeout(30);
      await errorOf(awaitAnnouncement(broadcasts, watchFrom(0), { ...wait, signal }));
    });
  });
});
