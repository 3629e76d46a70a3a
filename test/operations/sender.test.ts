/** weightcast as the trainer's rank 0 beside an orchestrator that is made of the library's own functions; prime-rl's reference servers receive. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import {
  followTrainer,
  initBroadcaster,
  openPrimeRlSender,
  type PrimeRlSender,
  type PrimeRlSenderOptions,
  pause,
  type SendEvent,
  updateWeights,
} from '../../src/operations/index.js';
import { startReferencePrimeRl } from '../../src/testing/index.js';
import {
  answerAnnouncement,
  awaitAnnouncement,
  nextAnnouncement,
  watchFrom,
} from '../../src/transports/filesystem/prime-rl/index.js';
import { errorOf } from '../engines/client.js';
import { type PrimeRlBench, pausedOf, postsOf, withPrimeRl } from '../update/prime-rl-support.js';
import { digestsOf } from '../update/support.js';

vi.setConfig({ testTimeout: 180_000 });

const WAIT = { timeoutMs: 60_000, pollMs: 5 };
const ROUND = ['/pause', '/update_weights', '/resume'];

interface Roles extends PrimeRlBench {
  readonly urls: readonly string[];
  readonly broadcasts: string;
  /** Opens the sender; `join` tells the engines to. */
  open(join: (port: number) => void, options?: Partial<PrimeRlSenderOptions>): Promise<PrimeRlSender>;
  /** Opens it with an orchestrator that does nothing but join. */
  joined(options?: Partial<PrimeRlSenderOptions>): Promise<PrimeRlSender>;
}

/** One server with a worker, and one with two. */
async function withRoles(
  { layers = 2, faults = {} }: { readonly layers?: number; readonly faults?: object },
  body: (roles: Roles) => Promise<void>,
): Promise<void> {
  const members = [{ workers: 1 }, { workers: 2, faults }];
  await withPrimeRl(
    members,
    async (bench) => {
      const urls = bench.engines.map(({ url }, index) => `${url},workers=${members[index]?.workers}`);
      const broadcasts = join(bench.directory, 'run', 'broadcasts');
      const open: Roles['open'] = (onListening, options = {}) =>
        openPrimeRlSender({
          ...{ broadcasts, inferenceWorldSize: 3, port: 0, emulate: true, pollMs: 5 },
          ...{ packedBufferBytes: 50_000, onListening, joinTimeoutMs: 60_000, ...options },
        });
      const joined: Roles['joined'] = async (options) => {
        let joining: Promise<unknown> = Promise.resolve();
        const sender = await open((port) => {
          joining = initBroadcaster(urls, { host: '127.0.0.1', port });
        }, options);
        await joining;
        return sender;
      };
      await body({ ...bench, urls, broadcasts, open, joined });
    },
    layers,
  );
}

const markersOf = async (broadcasts: string, version: number) =>
  (await readdir(join(broadcasts, `step_${version}`))).sort();

it.each(['stable', 'dotfiles'] as const)(
  'sends version after version in one group, by the %s markers, while an orchestrator pauses and resumes',
  async (generation) => {
    await withRoles({}, async ({ engines, urls, broadcasts, a, b, open }) => {
      const stop = new AbortController();
      const served: number[] = [];
      let following: Promise<void> = Promise.resolve();
      await using sender = await open(
        (port) => {
          following = followTrainer(urls, {
            ...{ broadcasts, group: { host: '127.0.0.1', port }, signal: stop.signal, pollMs: 5 },
            onUpdated: ({ version }) => {
              served.push(version);
              if (version === 8) stop.abort();
            },
          });
          following.catch(() => undefined);
        },
        { generation },
      );
      const events: SendEvent['kind'][] = [];
      const report = await sender.send(b, 7, { onEvent: ({ kind }) => events.push(kind) });
      expect(report).toMatchObject({ version: 7, generation });
      expect(report.bytes).toBeGreaterThan(0);
      expect(events.slice(0, 2)).toEqual(['announced', 'answered']);
      await sender.send(a, 8);
      await following;
      expect(served).toEqual([7, 8]);
      for (const posts of await postsOf(engines))
        expect(posts).toEqual(['/init_broadcaster', ...ROUND, ...ROUND]);
      const [one] = await Promise.all(engines.map(digestsOf));
      await using fresh = await startReferencePrimeRl({ model: a, workersInEngine: true });
      expect(one).toEqual(await digestsOf(fresh));
      expect(await pausedOf(engines)).toEqual([false, false]);
      const left = generation === 'stable' ? ['NCCL_READY', 'STABLE'] : ['.finished', '.receiver_ready'];
      expect(await markersOf(broadcasts, 8)).toEqual(expect.arrayContaining(left));
    });
  },
);

it('takes the announcement back when no orchestrator answers, and asks nobody anything', async () => {
  await withRoles({}, async ({ engines, broadcasts, b, joined }) => {
    await using sender = await joined({ answerTimeoutMs: 60 });
    expect(await errorOf(sender.send(b, 1))).toMatchObject({ code: 'WC_RENDEZVOUS_TIMEOUT' });
    expect(await markersOf(broadcasts, 1)).toEqual([]);
    expect(await nextAnnouncement(broadcasts, watchFrom(0))).toBeNull();
    for (const posts of await postsOf(engines)) expect(posts).toEqual(['/init_broadcaster']);
  });
});

it('takes it back when it is interrupted, and can send the next version in the same group', async () => {
  await withRoles({}, async ({ engines, urls, broadcasts, b, joined }) => {
    await using sender = await joined();
    const stop = new AbortController();
    const onEvent = ({ kind }: SendEvent) => kind === 'announced' && stop.abort();
    const interrupted = sender.send(b, 1, { signal: stop.signal, onEvent });
    expect(await errorOf(sender.send(b, 1))).toMatchObject({ code: 'WC_UPDATE_BUSY' });
    expect(await errorOf(interrupted)).toMatchObject({ code: 'WC_UPDATE_ABORTED' });
    expect(await nextAnnouncement(broadcasts, watchFrom(0))).toBeNull();

    const sending = sender.send(b, 2);
    const announcement = await awaitAnnouncement(broadcasts, watchFrom(0), WAIT);
    await updateWeights(urls, announcement.path, {
      from: 'broadcast',
      onPaused: async () => expect(await answerAnnouncement(announcement)).toBe(true),
    });
    await sending;
    const [one] = await Promise.all(engines.map(digestsOf));
    await using fresh = await startReferencePrimeRl({ model: b, workersInEngine: true });
    expect(one).toEqual(await digestsOf(fresh));
  });
});

it('ends at its deadline when the orchestrator dies after the pause, and announces nothing more: the engines stay paused', async () => {
  await withRoles({ layers: 60 }, async ({ engines, urls, broadcasts, b, joined }) => {
    await using sender = await joined({ updateTimeoutMs: 1_000 });
    const sending = errorOf(sender.send(b, 1));
    const announcement = await awaitAnnouncement(broadcasts, watchFrom(0), WAIT);
    await pause(urls);
    expect(await answerAnnouncement(announcement)).toBe(true);
    // It never asks the engines to receive.
    const error = await sending;
    expect(error).toMatchObject({ code: 'WC_UPDATE_QUARANTINED', phase: 'transfer' });
    expect(error.details).toMatchObject({ version: 1, code: 'WC_NCCL_TIMEOUT' });
    expect(await markersOf(broadcasts, 1)).toEqual([]);
    expect(await pausedOf(engines)).toEqual([true, true]);
    // A group that has lost a broadcast is over, and nobody is paused for it again.
    expect(await errorOf(sender.send(b, 2))).toMatchObject({ code: 'WC_NCCL_ABORTED' });
    expect(await nextAnnouncement(broadcasts, watchFrom(0))).toBeNull();
  });
});

it('says so when an engine fails in the middle, and its orchestrator resumes no engine that is not whole', async () => {
  const faults = { receive: { afterBroadcasts: 3, action: 'raise' as const } };
  await withRoles({ layers: 60, faults }, async ({ engines, urls, broadcasts, b, joined }) => {
    await using sender = await joined({ updateTimeoutMs: 4_000 });
    const sending = errorOf(sender.send(b, 1));
    const announcement = await awaitAnnouncement(broadcasts, watchFrom(0), WAIT);
    const updating = updateWeights(urls, announcement.path, {
      from: 'broadcast',
      updateTimeoutMs: 8_000,
      onPaused: async () => void (await answerAnnouncement(announcement)),
    });
    const orchestrator = await errorOf(updating);
    expect(orchestrator.code).toBe('WC_UPDATE_QUARANTINED');
    const { paused } = orchestrator.details as { paused: string[] };
    expect(paused).toContain(engines[1]?.url);
    expect((await sending).code).toBe('WC_UPDATE_QUARANTINED');
    expect((await pausedOf(engines))[1]).toBe(true);
    for (const posts of await postsOf(engines)) {
      expect(posts.filter((path) => path === '/update_weights')).toHaveLength(1);
    }
  });
});

it('names how many workers did not come', async () => {
  await withRoles({}, async ({ open }) => {
    const error = await errorOf(open(() => undefined, { joinTimeoutMs: 200 }));
    expect(error).toMatchObject({ code: 'WC_RENDEZVOUS_TIMEOUT', phase: 'rendezvous' });
    expect(error.message).toContain('0 of 3 workers joined');
    expect(error.remedy).toContain('inference world size');
    const stop = new AbortController();
    const waiting = open(() => stop.abort(), { signal: stop.signal });
    expect(await errorOf(waiting)).toMatchObject({ code: 'WC_UPDATE_ABORTED' });
  });
});

it('refuses what prime-rl has no name for, before anything is announced', async () => {
  await withRoles({}, async ({ broadcasts, a, joined }) => {
    await using sender = await joined();
    expect(await errorOf(sender.send(a, 1.5))).toMatchObject({ code: 'WC_CONFIG_INVALID' });
    expect(await errorOf(sender.send(join(a, 'none'), 1))).toMatchObject({ code: 'WC_CHECKPOINT_NOT_FOUND' });
    await expect(readdir(broadcasts)).rejects.toThrow('ENOENT');
    await sender.close();
    await sender.close();
    expect(await errorOf(sender.send(a, 1))).toMatchObject({ code: 'WC_NATIVE_CLOSED' });
  });
  const none = { broadcasts: '/nowhere', inferenceWorldSize: 0, emulate: true };
  expect(await errorOf(openPrimeRlSender(none))).toMatchObject({ code: 'WC_CONFIG_INVALID' });
});
