/** A follower's engines are its own: pushes and other followers are refused, and a follower that is killed leaves word of what it did. */
import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { type FollowOptions, followTrainer } from '../../src/operations/index.js';
import { parseRecord } from '../../src/update/claim/record.js';
import { MAIN, Spawned } from '../cli/spawned.js';
import { expectCode } from '../engines/client.js';
import { type PrimeRlBench, pausedOf, postsOf, withPrimeRl } from '../update/prime-rl-support.js';
import { digestsOf, failedReport } from '../update/support.js';

vi.setConfig({ testTimeout: 180_000 });

/** What a trainer that writes files leaves when it has written a version. */
async function announce({ directory }: PrimeRlBench, version: number, from: string): Promise<void> {
  const step = join(directory, 'broadcasts', `step_${version}`);
  await cp(from, step, { recursive: true });
  await writeFile(join(step, 'STABLE'), '');
}

const stateOf = ({ directory }: PrimeRlBench): string => join(directory, 'state');

/** Files of records; of what engines hold a session keeps others there. */
const recordsOf = async (bench: PrimeRlBench): Promise<string[]> =>
  (await readdir(stateOf(bench))).filter((name) => name.endsWith('.push'));

/** Follows until `stop`; `started` once the first version is served. */
async function following(bench: PrimeRlBench, more: Partial<FollowOptions> = {}) {
  const broadcasts = join(bench.directory, 'broadcasts');
  await mkdir(broadcasts, { recursive: true });
  const stop = new AbortController();
  let served = (_: number) => {};
  const started = new Promise<number>((resolve) => {
    served = resolve;
  });
  const ended = followTrainer(
    bench.engines.map(({ url }) => url),
    {
      ...{ broadcasts, stateDir: stateOf(bench), signal: stop.signal, pollMs: 5 },
      onUpdated: ({ version }) => served(version),
      ...more,
    },
  );
  return { started, ended, stop: () => stop.abort() };
}

test('a push and another follower are refused as long as one follows, between two versions too, and go on after it', async () => {
  await withPrimeRl([{ broadcast: 'filesystem' }], async (bench) => {
    const first = await following(bench);
    await announce(bench, 1, bench.b);
    expect(await first.started).toBe(1);
    const before = await postsOf(bench.engines);

    const session = await bench.connect({ transport: 'filesystem' });
    const { error } = await failedReport(session.update(bench.a));
    expect(error).toMatchObject({
      code: 'WC_UPDATE_BUSY',
      message: expect.stringContaining(`is held by weightcast orchestrate by process ${process.pid} `),
    });
    const second = await following(bench);
    await expectCode(second.ended, 'WC_UPDATE_BUSY');
    expect(await postsOf(bench.engines)).toEqual(before);

    first.stop();
    await first.ended;
    expect(await recordsOf(bench)).toEqual([]);
    expect(await session.update(bench.a)).toMatchObject({ outcome: 'updated' });
  });
});

test('a follower of engines that are being pushed to is refused before anybody is asked', async () => {
  await withPrimeRl([{ broadcast: 'filesystem' }], async (bench) => {
    await announce(bench, 1, bench.a);
    const refused: Promise<unknown>[] = [];
    const session = await bench.connect({
      transport: 'filesystem',
      onEvent: (event) => {
        if (event.kind !== 'phase' || event.phase !== 'pause') return;
        refused.push(following(bench).then(({ ended }) => expectCode(ended, 'WC_UPDATE_BUSY')));
      },
    });
    expect(await session.update(bench.b)).toMatchObject({ outcome: 'updated' });
    expect(await Promise.all(refused)).toHaveLength(1);
    expect(await postsOf(bench.engines)).toEqual([['/pause', '/update_weights', '/resume']]);
  });
});

test('each version has a record of its own, which says of which version it is', async () => {
  await withPrimeRl([{ broadcast: 'filesystem' }], async (bench) => {
    const seen: (string | null)[] = [];
    const stop = new AbortController();
    const records = async () => {
      const names = await recordsOf(bench);
      return Promise.all(names.map((name) => readFile(join(stateOf(bench), name), 'utf8')));
    };
    const first = await following(bench, {
      signal: stop.signal,
      onUpdated: async ({ version }) => {
        for (const text of await records()) seen.push(parseRecord(text)?.head.push.version ?? null);
        if (version === 3) stop.abort();
        else await announce(bench, version + 1, bench.a);
      },
    });
    await announce(bench, 1, bench.b);
    await first.ended;
    expect(seen).toEqual(['1', '2', '3']);
    expect(await records()).toEqual([]);
  });
});

test('engines that are left in the middle by a follower that is killed are known to the next push, which heals them', async () => {
  const stall = { '/update_weights': { delayMs: 60_000, times: 1 } };
  await withPrimeRl(
    [{ broadcast: 'filesystem', routeFaults: stall }, { broadcast: 'filesystem' }],
    async (bench) => {
      const { engines, directory } = bench;
      await announce(bench, 7, bench.b);
      await using orchestrating = new Spawned([
        ...[MAIN, 'orchestrate', join(directory, 'broadcasts'), '--interval', '0.05'],
        ...engines.flatMap(({ url }) => ['-e', url]),
        ...['--state-dir', stateOf(bench)],
      ]);
      await vi.waitFor(async () => expect((await postsOf(engines))[1]).toContain('/update_weights'), {
        timeout: 60_000,
      });
      orchestrating.signal('SIGKILL');
      await orchestrating.ended;
      expect(await pausedOf(engines)).toEqual([true, true]);

      const session = await bench.connect({ transport: 'filesystem' });
      const report = await session.update(bench.a, { version: '8' });
      expect(report.outcome).toBe('updated');
      const notes = report.notes.join('\n');
      for (const { url } of engines) {
        expect(notes).toMatch(
          new RegExp(`${url}: found \\w+: weightcast orchestrate by process ${orchestrating.pid} `),
        );
      }
      expect(await pausedOf(engines)).toEqual([false, false]);
      const [one, other] = await Promise.all(engines.map(digestsOf));
      expect(one).toEqual(other);
      expect(await recordsOf(bench)).toEqual([]);
    },
  );
});

test('an engine that does not finish stays known as one that may hold a mixture', async () => {
  const fails = { '/update_weights': { status: 500 } };
  await withPrimeRl(
    [{ broadcast: 'filesystem', routeFaults: fails }, { broadcast: 'filesystem' }],
    async (bench) => {
      await announce(bench, 1, bench.b);
      const first = await following(bench, { updateTimeoutMs: 2_000 });
      await expectCode(first.ended, 'WC_UPDATE_QUARANTINED');
      const names = await recordsOf(bench);
      const [record] = await Promise.all(
        names.map(async (name) => parseRecord(await readFile(join(stateOf(bench), name), 'utf8'))),
      );
      expect(record).toMatchObject({
        left: true,
        head: { role: 'orchestrate', push: { version: '1', fallback: 'filesystem' } },
        engines: [{ state: 'quarantined' }, { state: 'serving-new' }],
      });
      expect(await pausedOf(bench.engines)).toEqual([true, false]);
    },
  );
});
