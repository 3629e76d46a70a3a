/** Updates of a session that chooses the base of each delta itself. */
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { leasedVersions } from '../../../src/transports/filesystem/lease/live.js';
import { writeManifest } from '../../../src/transports/filesystem/manifest.js';
import { prune } from '../../../src/transports/filesystem/retention/index.js';
import { manifestFor } from '../../transports/filesystem/publication.js';
import { writeChanged, writeTensor } from '../../weights/changed.js';
import {
  type Bench,
  digestsOf,
  digestsOfLoaded,
  failedReport,
  isPaused,
  postsTo,
  withBench,
} from '../support.js';

const SPARSE = { engines: 1, workers: 1, weightTransfer: 'sparse_nccl' } as const;

/** `a`, and versions after it that differ in one element of a hundred. */
async function versions({ a }: Bench, count: number): Promise<[string, string, string, string]> {
  const made = [a];
  for (let step = 1; step <= count; step += 1) {
    const path = join(dirname(a), `next-${step}`);
    await writeChanged(made.at(-1) as string, path, { fraction: 0.01, seed: 7 * step });
    made.push(path);
  }
  return made as [string, string, string, string];
}

async function expectHeld({ engines }: Bench, directory: string): Promise<void> {
  const [engine] = engines;
  const held = await digestsOf(engine!);
  expect(held).toEqual(await digestsOfLoaded(engine!, directory));
}

test('starts the first delta from what it is told, and each further one from what it pushed before', async () => {
  await withBench(SPARSE, async (bench) => {
    const [a, one, two, three] = await versions(bench, 3);
    const fleet = await bench.connect();
    const bases: (string | undefined)[] = [];
    for (const [path, version] of [
      [one, '1'],
      [two, '2'],
      [three, '3'],
    ] as const) {
      const report = await fleet.update(path, { delta: true, deltaFrom: a, version });
      expect(report).toMatchObject({ outcome: 'updated', transport: 'nccl' });
      bases.push(report.delta?.base);
    }
    expect(bases).toEqual([a, one, two]);
    await expectHeld(bench, three);
  });
});

test('before it has pushed anything, refuses before the pause, or has the whole version loaded from disk; then it knows the base', async () => {
  await withBench(SPARSE, async (bench) => {
    const [, one, two] = await versions(bench, 2);
    const refused = await failedReport((await bench.connect()).update(one, { delta: true }));
    expect(refused).toMatchObject({ outcome: 'failed', error: { code: 'WC_DELTA_BASE' }, pauseMs: null });
    expect(refused.error!.remedy).toContain('--delta-from');
    expect(await postsTo(bench.engines[0]!)).not.toContain('/pause');

    const fleet = await bench.connect({ fallback: 'filesystem' });
    const first = await fleet.update(one, { delta: true });
    expect(first).toMatchObject({ outcome: 'updated', transport: 'filesystem', delta: null });
    expect(first.notes.join()).toContain('this session has pushed none');
    expect(await fleet.update(two, { delta: true })).toMatchObject({
      transport: 'nccl',
      delta: { base: one },
    });
    await expectHeld(bench, two);
  });
});

test.each([
  ['is gone', (path: string) => rm(path, { recursive: true }), 'is gone'],
  [
    'has other bytes by now',
    (path: string) => writeTensor(path, 'model.norm.weight', (bytes) => bytes.fill(0)),
    'its files are others',
  ],
  [
    'was replaced by another checkpoint',
    async (path: string, { c }: Bench) => {
      await rm(path, { recursive: true });
      await rename(c, path);
    },
    'its files are others',
  ],
] as const)(
  'never starts from a version that %s: whole from disk where allowed, else refused',
  async (_, spoil, words) => {
    await withBench(SPARSE, async (bench) => {
      const [a, one, two, three] = await versions(bench, 3);
      const strict = await bench.connect();
      await strict.update(one, { delta: true, deltaFrom: a });
      const fleet = await bench.connect({ fallback: 'filesystem' });
      await fleet.update(one, { delta: true, deltaFrom: one });
      await spoil(one, bench);
      const refused = await failedReport(strict.update(two, { delta: true }));
      expect(refused).toMatchObject({ outcome: 'failed', error: { code: 'WC_DELTA_BASE' }, pauseMs: null });
      expect(refused.error!.message).toContain(words);
      const whole = await fleet.update(two, { delta: true });
      expect(whole).toMatchObject({ outcome: 'updated', transport: 'filesystem', delta: null });
      expect(whole.notes.join()).toContain(words);
      expect(await fleet.update(three, { delta: true })).toMatchObject({ delta: { base: two } });
      await expectHeld(bench, three);
    });
  },
);

test('goes on from the version that some engine took, and names the one that missed it', async () => {
  await withBench({ ...SPARSE, engines: 2 }, async (bench) => {
    const [a, one, two] = await versions(bench, 2);
    const fleet = await bench.connect();
    await bench.engines[1]!.setFaults({ patch: { afterTensors: 12, action: 'raise' } });
    const missed = await failedReport(fleet.update(one, { delta: true, deltaFrom: a, version: '1' }));
    expect(missed.engines).toMatchObject([{ state: 'serving-new' }, { state: 'quarantined' }]);
    await bench.engines[1]!.setFaults({});
    const next = await failedReport(fleet.update(two, { delta: true, version: '2' }));
    expect(next.error).toMatchObject({ code: 'WC_DELTA_BASE', engine: bench.urls[1] });
    expect(next.error!.message).not.toContain(bench.urls[0]);
    expect(await Promise.all(bench.urls.map(isPaused))).toEqual([false, true]);
  });
});

test('an engine that others gave something else since is not patched', async () => {
  await withBench(SPARSE, async (bench) => {
    const [a, one, two] = await versions(bench, 2);
    const fleet = await bench.connect({ fallback: 'filesystem' });
    await fleet.update(one, { delta: true, deltaFrom: a });
    await (await bench.connect({ transport: 'filesystem', verify: 'none' })).update(bench.c);
    expect(await fleet.update(two, { delta: true })).toMatchObject({
      outcome: 'updated',
      transport: 'filesystem',
      delta: null,
    });
    await expectHeld(bench, two);
  });
});

test('a delta asked for is not sent by files', async () => {
  await withBench(SPARSE, async (bench) => {
    const fleet = await bench.connect({ transport: 'filesystem' });
    const refused = await failedReport(fleet.update(bench.b, { delta: true }));
    expect(refused).toMatchObject({ error: { code: 'WC_CONFIG_INVALID' }, pauseMs: null });
  });
});

test('keeps retention away from what the next delta starts from, until it has started from it or the session ends', async () => {
  await withBench(SPARSE, async (bench) => {
    const made = await versions(bench, 3);
    const directory = join(dirname(bench.a), 'published');
    await mkdir(directory);
    const steps: string[] = [];
    // One after the other: retention also keeps the newest by the time of their manifests.
    for (const [version, path] of made.entries()) {
      const step = join(directory, `step_${version}`);
      await rename(path, step);
      await writeManifest(step, await manifestFor(step, version), { sync: false });
      await writeFile(join(step, 'STABLE'), '');
      steps.push(step);
    }
    const leased = async () => [...(await leasedVersions(directory, 60_000))];
    const fleet = await bench.connect();
    await fleet.update(steps[1]!, { delta: true, deltaFrom: steps[0]! });
    expect(await leased()).toEqual([1]);
    const { removed } = await prune(directory, { keep: 2, graceMs: 0 });
    expect(removed.map(({ version }) => version)).toEqual([0]);
    expect(await fleet.update(steps[3]!, { delta: true })).toMatchObject({ delta: { base: steps[1] } });
    expect(await leased()).toEqual([3]);
    await fleet.close();
    expect(await leased()).toEqual([]);
  });
});
