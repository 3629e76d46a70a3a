/** `weightcast send` beside `weightcast orchestrate`: two processes, the built command line, reference prime-rl servers. */
import { once } from 'node:events';
import { cp, mkdir, readdir, rename, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { initBroadcaster, updateWeights } from '../../src/operations/index.js';
import {
  answerAnnouncement,
  awaitAnnouncement,
  nextAnnouncement,
  watchFrom,
} from '../../src/transports/filesystem/prime-rl/index.js';
import { errorOf } from '../engines/client.js';
import { type PrimeRlBench, pausedOf, postsOf, withPrimeRl } from '../update/prime-rl-support.js';
import { digestsOf } from '../update/support.js';
import { MAIN, Spawned, weightcast } from './spawned.js';

vi.setConfig({ testTimeout: 180_000 });

const WAIT = { timeoutMs: 60_000, pollMs: 5 };

async function freePort(): Promise<string> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return String(port);
}

/** The command line of the sender of two workers. */
function sendArgs(weights: string, { directory }: PrimeRlBench, port: string, ...more: string[]): string[] {
  const own = ['--broadcasts', join(directory, 'broadcasts'), '--inference-world-size', '2'];
  return ['send', weights, ...own, '--master-port', port, '--emulate', ...more];
}

/** As a trainer writes it: whole when it appears. */
async function step(directory: string, n: number, from: string): Promise<void> {
  await cp(from, join(directory, 'next'), { recursive: true });
  await writeFile(join(directory, 'next', 'STABLE'), '');
  await mkdir(join(directory, 'steps'), { recursive: true });
  await rename(join(directory, 'next'), join(directory, 'steps', `step_${n}`));
}

test('send follows a folder, orchestrate follows it, and two versions reach the engines in one group', async () => {
  await withPrimeRl([{}, {}], async (bench) => {
    const { engines, directory, a, b } = bench;
    const [port, steps, broadcasts] = [
      await freePort(),
      join(directory, 'steps'),
      join(directory, 'broadcasts'),
    ];
    await step(directory, 1, b);
    await using sending = new Spawned([
      MAIN,
      ...sendArgs(steps, bench, port, '--watch', '--interval', '0.05', '--max-updates', '2', '--json'),
    ]);
    await sending.err.seen('rank 0 listens on');
    await using orchestrating = new Spawned([
      ...[MAIN, 'orchestrate', broadcasts, ...engines.flatMap(({ url }) => ['-e', `prime-rl=${url}`])],
      ...['--trainer', `127.0.0.1:${port}`, '--interval', '0.05', '--json'],
    ]);
    await orchestrating.out.seen('\n');
    await step(directory, 2, a);
    const sent = await sending.ended;
    expect(sent).toMatchObject({ code: 0 });
    await orchestrating.out.seen('"version":2');
    orchestrating.signal('SIGINT');
    const orchestrated = await orchestrating.ended;
    expect(orchestrated).toMatchObject({ code: 0 });
    const lines = (text: string) =>
      text
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as object);
    expect(lines(sent.out)).toMatchObject([
      { version: 1, generation: 'dotfiles', emulated: true },
      { version: 2 },
    ]);
    expect(lines(orchestrated.out)).toMatchObject([{ version: 1 }, { version: 2, adapters: {} }]);
    const round = ['/pause', '/update_weights', '/resume'];
    for (const posts of await postsOf(engines))
      expect(posts).toEqual(['/init_broadcaster', ...round, ...round]);
    const [one, other] = await Promise.all(engines.map(digestsOf));
    expect(one).toEqual(other);
    expect(await pausedOf(engines)).toEqual([false, false]);
  });
});

test('Ctrl-C while nobody answers leaves nothing that an orchestrator would follow, and exits 130', async () => {
  await withPrimeRl([{}, {}], async (bench) => {
    const port = await freePort();
    const broadcasts = join(bench.directory, 'broadcasts');
    await using sending = new Spawned([MAIN, ...sendArgs(bench.b, bench, port, '--weight-version', '3')]);
    await sending.err.seen('rank 0 listens on');
    await initBroadcaster(
      bench.engines.map(({ url }) => url),
      { host: '127.0.0.1', port: Number(port) },
    );
    await awaitAnnouncement(broadcasts, watchFrom(0), WAIT);
    sending.signal('SIGINT');
    expect(await sending.ended).toMatchObject({ code: 130, signal: null });
    expect(await nextAnnouncement(broadcasts, watchFrom(0))).toBeNull();
    expect(await readdir(join(broadcasts, 'step_3'))).toEqual([]);
    for (const posts of await postsOf(bench.engines)) expect(posts).toEqual(['/init_broadcaster']);
  });
});

test('a sender that is killed in mid-broadcast leaves engines that stay paused and are named, by exit 3', async () => {
  const stall = { receive: { afterBroadcasts: 3, action: 'stall' as const } };
  await withPrimeRl(
    [{ faults: stall }, { faults: stall }],
    async (bench) => {
      const { engines, directory, b } = bench;
      const port = await freePort();
      const broadcasts = join(directory, 'broadcasts');
      await using sending = new Spawned([
        MAIN,
        ...sendArgs(b, bench, port, '--weight-version', '1', '--packed-buffer-bytes', '50000'),
      ]);
      await sending.err.seen('rank 0 listens on');
      await using orchestrating = new Spawned([
        ...[MAIN, 'orchestrate', broadcasts, ...engines.flatMap(({ url }) => ['-e', url])],
        ...['--trainer', `127.0.0.1:${port}`, '--interval', '0.05', '--timeout-update', '3'],
        ...['--state-dir', join(directory, 'state')],
      ]);
      await sending.err.seen('transfer');
      sending.signal('SIGKILL');
      await sending.ended;
      const ended = await orchestrating.ended;
      expect(ended).toMatchObject({ code: 3, out: '' });
      for (const { url } of engines) expect(ended.err).toContain(url);
      expect(ended.err).toContain('WC_UPDATE_QUARANTINED');
      expect(await pausedOf(engines)).toEqual([true, true]);
      for (const posts of await postsOf(engines)) expect(posts).not.toContain('/resume');
    },
    60,
  );
});

test('a broadcast in which an engine fails ends the sender by exit 3, with what has to be done', async () => {
  await withPrimeRl(
    [{}, { faults: { receive: { afterBroadcasts: 3, action: 'raise' } } }],
    async (bench) => {
      const port = await freePort();
      const broadcasts = join(bench.directory, 'broadcasts');
      const urls = bench.engines.map(({ url }) => url);
      await using sending = new Spawned([
        ...[MAIN, ...sendArgs(bench.b, bench, port, '--weight-version', '1', '--timeout-update', '2')],
        ...['--packed-buffer-bytes', '50000', '--json'],
      ]);
      await sending.err.seen('rank 0 listens on');
      await initBroadcaster(urls, { host: '127.0.0.1', port: Number(port) });
      const announcement = await awaitAnnouncement(broadcasts, watchFrom(0), WAIT);
      const orchestrator = errorOf(
        updateWeights(urls, announcement.path, {
          from: 'broadcast',
          updateTimeoutMs: 6_000,
          onPaused: async () => void (await answerAnnouncement(announcement)),
        }),
      );
      const ended = await sending.ended;
      expect(ended.code).toBe(3);
      const { error } = JSON.parse(ended.out);
      expect(error).toMatchObject({ code: 'WC_UPDATE_QUARANTINED', phase: 'transfer' });
      expect(error.remedy).toContain('restart');
      expect((await orchestrator).code).toBe('WC_UPDATE_QUARANTINED');
      expect(await nextAnnouncement(broadcasts, watchFrom(0))).toBeNull();
    },
    60,
  );
});

test.each([
  [['send', '/w', '--broadcasts', '/b', '--weight-version', '1'], '--inference-world-size'],
  [['send', '/w', '--broadcasts', '/b', '--inference-world-size', '2'], 'not named step_<n>'],
  [
    ['send', '/step_1', '--broadcasts', '/b', '--inference-world-size', '2', '--weight-version', 'v1'],
    'whole number',
  ],
  [
    ['send', '/b', '--broadcasts', '/b', '--inference-world-size', '2', '--watch'],
    'the broadcasts folder itself',
  ],
  [['send', '/step_1', '--inference-world-size', '2'], '--broadcasts'],
  [['orchestrate', '/b'], '--engine'],
  [['orchestrate', '/b', '-e', 'http://127.0.0.1:9', '--trainer', 'nowhere'], 'HOST:PORT'],
])('%s is wrong usage', async (args, expected) => {
  const ended = await weightcast(args);
  expect(ended).toMatchObject({ code: 2, out: '' });
  expect(ended.err).toContain(expected);
});
