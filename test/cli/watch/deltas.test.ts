/** `weightcast watch --delta` in processes of its own, against reference engines; they are asked afterwards what they hold. */
import { cp, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { listPublished } from '../../../src/transports/filesystem/published/list.js';
import type { UpdateReport } from '../../../src/update/types.js';
import { env, LONG, type Scene, until, withScene } from '../../update/scene.js';
import { digestsOf, digestsOfLoaded } from '../../update/support.js';
import { writeChanged } from '../../weights/changed.js';
import { MAIN, Spawned, weightcast } from '../spawned.js';

vi.setConfig({ testTimeout: 3 * LONG });

const SPARSE = { engines: 2, workers: 1, weightTransfer: 'sparse_nccl' } as const;

/** `a`, and versions after it that differ in one element of a hundred. */
async function versionsAfter({ a }: Scene, count: number): Promise<string[]> {
  const made = [a];
  for (let version = 1; version <= count; version += 1) {
    const path = join(dirname(a), `version-${version}`);
    await writeChanged(made.at(-1) as string, path, { fraction: 0.01, seed: 7 * version });
    made.push(path);
  }
  return made;
}

/** As a trainer writes it: whole when it appears. */
async function step(directory: string, n: number, from: string): Promise<void> {
  const next = join(dirname(directory), 'next');
  await cp(from, next, { recursive: true });
  await writeFile(join(next, 'STABLE'), '');
  await mkdir(directory, { recursive: true });
  await rename(next, join(directory, `step_${n}`));
}

function watching(scene: Scene, directory: string, ...more: string[]): Spawned {
  const engines = scene.urls.flatMap((url) => ['-e', url]);
  return new Spawned(
    [
      ...['--no-warnings', MAIN, 'watch', directory, ...engines, '--emulate', '--json'],
      ...['--delta', '--fallback', 'filesystem', '--interval', '0.05', ...more],
    ],
    env(scene.state),
  );
}

/** The reports that it has printed, once there are so many. */
async function reports(watch: Spawned, count: number): Promise<readonly UpdateReport[]> {
  const lines = () => watch.out.text.split('\n').slice(0, -1);
  await until(() => lines().length >= count);
  return lines().map((line) => JSON.parse(line) as UpdateReport);
}

async function expectHeld({ engines }: Scene, directory: string): Promise<void> {
  const held = await Promise.all(engines.map(digestsOf));
  const wanted = await digestsOfLoaded(engines[0]!, directory);
  expect(held).toEqual(engines.map(() => wanted));
}

test('each new step goes as a delta from the one before; killed and started again it knows no base, so that the first one is whole', async () => {
  await withScene(async (scene) => {
    const made = await versionsAfter(scene, 6);
    const directory = join(dirname(scene.a), 'steps');
    await step(directory, 1, made[1]!);
    {
      await using watch = watching(scene, directory);
      await reports(watch, 1);
      await step(directory, 2, made[2]!);
      await reports(watch, 2);
      await step(directory, 3, made[3]!);
      const [first, second, third] = await reports(watch, 3);
      expect(first).toMatchObject({ outcome: 'updated', transport: 'filesystem', delta: null });
      expect(second).toMatchObject({
        ...{ outcome: 'updated', transport: 'nccl', version: '2' },
        delta: { base: join(directory, 'step_1') },
      });
      expect(third).toMatchObject({ outcome: 'updated', delta: { base: join(directory, 'step_2') } });
      watch.signal('SIGKILL');
      await watch.ended;
    }
    await step(directory, 4, made[4]!);
    await using watch = watching(scene, directory);
    await reports(watch, 1);
    // The base of the next one vanishes: that goes whole, too, and the one after it as a delta again.
    await rm(join(directory, 'step_4'), { recursive: true });
    await step(directory, 5, made[5]!);
    await reports(watch, 2);
    await step(directory, 6, made[6]!);
    const [fourth, fifth, sixth] = await reports(watch, 3);
    expect(fourth).toMatchObject({ outcome: 'updated', transport: 'filesystem', delta: null });
    expect(fifth).toMatchObject({ outcome: 'updated', transport: 'filesystem', delta: null });
    expect(fifth!.notes.join()).toContain('step_4, which the engines hold, is gone');
    expect(sixth).toMatchObject({ outcome: 'updated', delta: { base: join(directory, 'step_5') } });
    watch.signal('SIGINT');
    expect((await watch.ended).code).toBe(0);
    await expectHeld(scene, made[6]!);
  }, SPARSE);
});

test('deltas by file, made whole by follow, reach the engines as deltas by NCCL', async () => {
  await withScene(async (scene) => {
    const made = await versionsAfter(scene, 3);
    const [shared, local] = [join(dirname(scene.a), 'shared'), join(dirname(scene.a), 'local')];
    const publish = async (version: number) => {
      const base = version === 1 ? [] : ['--delta-base', made[version - 1]!];
      const args = ['publish', made[version]!, '--into', shared, '--version', String(version)];
      const ended = await weightcast([...args, '--delta', ...base, '--json']);
      expect(ended).toMatchObject({ code: 0 });
    };
    await publish(1);
    await using following = new Spawned([
      ...['--no-warnings', MAIN, 'follow', shared, '--into', local, '--interval', '0.05', '--json'],
    ]);
    await following.out.seen('"version":1');
    await using watch = watching(scene, local, '--verify', 'digest', '--delta-from', scene.a);
    await reports(watch, 1);
    await publish(2);
    await reports(watch, 2);
    await publish(3);
    const pushed = await reports(watch, 3);
    const kinds = (await listPublished(shared)).map(({ manifest }) => manifest.kind);
    expect(kinds).toEqual(['delta', 'delta', 'full']);
    for (const [index, report] of pushed.entries()) {
      const base = index === 0 ? scene.a : join(local, `step_${index}`);
      const proof = { method: 'digest', mismatched: [] };
      expect(report).toMatchObject({
        ...{ outcome: 'updated', version: String(index + 1), delta: { base } },
        engines: [{ proof, weightVersion: String(index + 1) }, { proof }],
      });
    }
    following.signal('SIGINT');
    watch.signal('SIGINT');
    expect([(await following.ended).code, (await watch.ended).code]).toEqual([0, 0]);
    await expectHeld(scene, made[3]!);
  }, SPARSE);
});
