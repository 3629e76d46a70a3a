import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';
import {
  type FollowPublishedOptions,
  follow,
  followPublished,
} from '../../../src/transports/filesystem/follow/follow.js';
import type { ApplyDelta } from '../../../src/transports/filesystem/follow/make.js';
import { type KnownVersion, planFollow } from '../../../src/transports/filesystem/follow/plan.js';
import { parseLeftover, stepFolder } from '../../../src/transports/filesystem/layout.js';
import { leasedVersions } from '../../../src/transports/filesystem/lease/live.js';
import {
  readManifest,
  tensorsOfManifest,
  writeManifest,
} from '../../../src/transports/filesystem/manifest.js';
import { publish } from '../../../src/transports/filesystem/publish/index.js';
import { listPublished } from '../../../src/transports/filesystem/published/list.js';
import { openPublished } from '../../../src/transports/filesystem/published/open.js';
import { writeCheckpoint } from '../../../src/weights/write.js';
import { withDirectory } from '../../weights/files.js';
import { hashOf, publishSmall } from './publication.js';

const full = (version: number, digest = `d${version}`): KnownVersion => ({
  version,
  kind: 'full',
  digest,
  base: null,
});
const delta = (version: number, base: number, baseDigest = `d${base}`): KnownVersion => ({
  ...{ version, kind: 'delta', digest: `d${version}`, base: { version: base, digest: baseDigest } },
});
const steps = (published: KnownVersion[], held: KnownVersion[], deltas = true) =>
  planFollow(published, held, { deltas }).steps.map((step) => `${step.kind} ${step.version}`);

describe('the plan', () => {
  test.each<[string, KnownVersion[], KnownVersion[], string[]]>([
    ['nothing is published', [], [full(1)], []],
    ['straight to the newest full version', [full(1), full(2), full(3)], [full(1)], ['copy 3']],
    ['the newest is held', [full(3)], [full(3)], []],
    [
      'a chain from the last full version',
      [full(1), delta(2, 1), delta(3, 2)],
      [],
      ['copy 1', 'apply 2', 'apply 3'],
    ],
    ['a chain from what is held', [full(1), delta(2, 1), delta(3, 2)], [full(2)], ['apply 3']],
    ['a base that is held and no longer published', [delta(3, 2)], [full(2)], ['apply 3']],
    ['a version of other weights under the same number', [full(3, 'new')], [full(3)], ['copy 3']],
    ['a held base of other weights', [full(2), delta(3, 2)], [full(2, 'other')], ['copy 2', 'apply 3']],
    ['a base that nobody has: the newest before it', [full(1), delta(5, 4)], [], ['copy 1']],
    ['a base of other weights: the newest before it', [full(4, 'x'), delta(5, 4)], [], ['copy 4']],
    ['deltas in a circle', [delta(5, 4), delta(4, 5)], [], []],
  ])('%s', (_, published, held, expected) => {
    expect(steps(published, held)).toEqual(expected);
  });

  test('names what it refuses, by its base', () => {
    const { refused } = planFollow([full(1), delta(5, 4)], [full(1)], { deltas: true });
    expect(refused).toMatchObject([{ version: 5, error: { code: 'WC_DELTA_BASE', details: { base: 4 } } }]);
  });

  test('takes no delta where none can be applied', () => {
    expect(steps([full(1), delta(2, 1)], [], false)).toEqual(['copy 1']);
  });

  test('whatever is there: each delta is applied to what is then held, and the last step is the newest that can be made', () => {
    const anyVersion = fc.record({
      version: fc.nat({ max: 12 }),
      base: fc.option(fc.nat({ max: 12 }), { nil: null }),
      good: fc.boolean(),
    });
    const published = fc.uniqueArray(anyVersion, { selector: ({ version }) => version });
    fc.assert(
      fc.property(published, fc.uniqueArray(fc.nat({ max: 12 })), (list, held) => {
        const versions = list.map(({ version, base, good }) =>
          base === null ? full(version) : delta(version, base, good ? `d${base}` : 'other'),
        );
        const digests = new Map(held.map((version) => [version, `d${version}`]));
        const plan = planFollow(
          versions,
          held.map((version) => full(version)),
          { deltas: true },
        );
        for (const step of plan.steps) {
          const found = versions.find(({ version }) => version === step.version);
          if (step.kind === 'apply') expect(digests.get(step.base)).toBe(found?.base?.digest);
          else expect(found?.base).toBeNull();
          expect(digests.has(step.version)).toBe(false);
          digests.set(step.version, found?.digest as string);
        }
        for (const { version } of plan.refused)
          expect(version).toBeGreaterThan(plan.steps.at(-1)?.version ?? -1);
      }),
      { numRuns: 500 },
    );
  });
});

async function withPlaces(use: (places: { shared: string; local: string }) => Promise<void>): Promise<void> {
  await withDirectory((folder) => use({ shared: join(folder, 'shared'), local: join(folder, 'local') }));
}

const heldIn = async (local: string) => (await listPublished(local)).map(({ version }) => version);

/** Follows until so many versions are there. */
function followFor(
  shared: string,
  local: string,
  maxVersions: number,
  more: Partial<FollowPublishedOptions> = {},
) {
  const signal = AbortSignal.timeout(60_000);
  return followPublished(shared, { into: local, signal, maxVersions, pollMs: 5, fsync: false, ...more });
}

describe('a follower', () => {
  test('holds the newest version with its digest and everything beside the tensors', () =>
    withPlaces(async ({ shared, local }) => {
      await publishSmall(shared, 1);
      const step = await publishSmall(shared, 2);
      const told: string[] = [];
      expect(await followFor(shared, local, 1, { onVersion: ({ path }) => void told.push(path) })).toBe(1);
      expect(told).toEqual([stepFolder(local, 2)]);
      await using opened = await openPublished(local);
      expect(opened.manifest.digest).toBe((await readManifest(step)).digest);
      expect(await readFile(join(opened.path, 'config.json'), 'utf8')).toBe('{"version":2}');
      expect(await readdir(opened.path)).toContain('STABLE');
      expect(
        (await readdir(join(shared, '.weightcast', 'leases'))).filter((name) => name.startsWith('step_')),
      ).toEqual([]);
    }));

  test('goes on with each version that comes, and keeps as many as it should', () =>
    withPlaces(async ({ shared, local }) => {
      await publishSmall(shared, 1);
      const onVersion = async ({ version }: { version: number }) => {
        if (version < 5) await publishSmall(shared, version + 1);
      };
      expect(await followFor(shared, local, 5, { onVersion, graceMs: 0 })).toBe(5);
      expect(await heldIn(local)).toEqual([5, 4]);
    }));

  test('names a version that is not what its manifest says once, takes none of it, and waits for the next', () =>
    withPlaces(async ({ shared, local }) => {
      const step = await publishSmall(shared, 1, { shards: 1 });
      const path = join(step, 'model.safetensors');
      const { size } = await stat(path);
      await using file = await open(path, 'r+');
      await file.write(Buffer.from([1, 2, 3]), 0, 3, size - 3);
      const refused: string[] = [];
      const onRefused = async (version: number, { code }: { code: string }) => {
        refused.push(`${version} ${code}`);
        await publishSmall(shared, 2);
      };
      await followFor(shared, local, 1, { onRefused: (version, error) => void onRefused(version, error) });
      expect(refused).toEqual(['1 WC_VERSION_CORRUPT']);
      expect(await heldIn(local)).toEqual([2]);
    }));

  test('passes over a version of which a file is not seen yet, takes the one before, and looks at it again', () =>
    withPlaces(async ({ shared, local }) => {
      await publishSmall(shared, 1);
      const step = await publishSmall(shared, 2);
      await rename(join(step, 'config.json'), join(shared, 'aside'));
      const refused: string[] = [];
      await follow(shared, {
        ...{ into: local, signal: AbortSignal.timeout(60_000), maxVersions: 2, pollMs: 5, fsync: false },
        ...{ apply: null, lateMs: 50 },
        onRefused: (version, { code }) => void refused.push(`${version} ${code}`),
        onVersion: ({ version }) =>
          version === 1 ? rename(join(shared, 'aside'), join(step, 'config.json')) : undefined,
      });
      expect([refused, await heldIn(local)]).toEqual([['2 WC_VERSION_CORRUPT'], [2, 1]]);
    }));

  test('replaces a version that was published anew under its number', () =>
    withPlaces(async ({ shared, local }) => {
      await publishSmall(shared, 1, { seed: 1 });
      await followFor(shared, local, 1);
      await rm(stepFolder(shared, 1), { recursive: true });
      const step = await publishSmall(shared, 1, { seed: 2 });
      await followFor(shared, local, 1);
      expect((await listPublished(local))[0]?.manifest.digest).toBe((await readManifest(step)).digest);
    }));

  test('ends by the signal, and refuses to follow itself or to keep one', () =>
    withPlaces(async ({ shared, local }) => {
      expect(await followPublished(shared, { into: local, signal: AbortSignal.timeout(30) })).toBe(0);
      const signal = new AbortController().signal;
      await expect(followPublished(shared, { into: shared, signal })).rejects.toMatchObject({
        code: 'WC_CONFIG_INVALID',
      });
      await expect(followPublished(shared, { into: local, signal, keep: 1 })).rejects.toMatchObject({
        code: 'WC_CONFIG_INVALID',
      });
    }));
});

describe('a chain of deltas', () => {
  /** Deltas of the test: the tensors of the new version, whole, in a checkpoint beside. */
  async function publishDelta(shared: string, version: number, made: string): Promise<void> {
    const base = await readManifest(made.replace(/\d+$/, String(version - 1)));
    const now = await readManifest(made);
    const step = stepFolder(shared, version);
    await mkdir(step);
    await copyFile(join(made, 'model.safetensors'), join(step, 'delta.bin'));
    const bytes = await readFile(join(step, 'delta.bin'));
    await writeManifest(
      step,
      {
        ...now,
        ...{ kind: 'delta', shards: [], base: { version: version - 1, digest: base.digest as string } },
        files: [{ name: 'delta.bin', byteLength: bytes.length, sha256: hashOf(bytes) }],
        tensors: tensorsOfManifest(now).map(({ name, dtype, shape, byteLength, sha256 }) => ({
          ...{ name, dtype, shape, byteLength, sha256 },
        })),
      },
      { sync: false },
    );
  }

  let applied: string[] = [];
  beforeEach(() => {
    applied = [];
  });
  const apply: ApplyDelta = async (one, base, { into, version }) => {
    expect(base.manifest.digest).toBe(one.manifest.base?.digest);
    // Both are held while the delta is applied: retention runs beside it.
    expect(await leasedVersions(into, 60_000)).toEqual(new Set([base.version]));
    expect(await leasedVersions(dirname(one.path), 60_000)).toEqual(new Set([version]));
    applied.push(`${base.version}>${version}`);
    const scratch = join(into, '..', 'scratch');
    await mkdir(scratch, { recursive: true });
    await copyFile(join(one.path, 'delta.bin'), join(scratch, 'model.safetensors'));
    return publish(scratch, { directory: into, version, fsync: false });
  };

  /** A full version and two deltas. @returns where all of them are published in full */
  async function publishChain(shared: string): Promise<string> {
    const whole = join(shared, '..', 'whole');
    for (const version of [1, 2, 3]) {
      const source = join(shared, '..', `source-${version}`);
      await writeCheckpoint(source, [{ name: 'w', dtype: 'BF16', shape: [64] }], { seed: version });
      await publish(source, { directory: whole, version, fsync: false });
    }
    await mkdir(shared);
    await publish(stepFolder(whole, 1), { directory: shared, version: 1, fsync: false });
    for (const version of [2, 3]) await publishDelta(shared, version, stepFolder(whole, version));
    return whole;
  }

  test('goes on where another follower of the same local directory was faster', () =>
    withPlaces(async ({ shared, local }) => {
      await publishChain(shared);
      const outrun: ApplyDelta = async (one, base, options) => {
        if (options.version === 2) await apply(one, base, options);
        return apply(one, base, options);
      };
      const made: number[] = [];
      await follow(shared, {
        ...{ into: local, signal: AbortSignal.timeout(60_000), pollMs: 5, fsync: false, maxVersions: 2 },
        apply: outrun,
        onRefused: (version) => expect.unreachable(`${version} is refused`),
        onVersion: ({ version }) => void made.push(version),
      });
      expect([made, await heldIn(local)]).toEqual([
        [1, 3],
        [3, 2, 1],
      ]);
    }));

  test('is applied in its order, from what is held, each once', () =>
    withPlaces(async ({ shared, local }) => {
      const whole = await publishChain(shared);
      const signal = AbortSignal.timeout(60_000);
      const options = { into: local, signal, pollMs: 5, fsync: false, apply };
      expect(await follow(shared, { ...options, maxVersions: 3 })).toBe(3);
      expect(applied).toEqual(['1>2', '2>3']);
      expect((await listPublished(local))[0]?.manifest.digest).toBe(
        (await readManifest(stepFolder(whole, 3))).digest,
      );
      // The last one is lost, and is made again from the one before: not from the start.
      await rm(stepFolder(local, 3), { recursive: true });
      expect(await follow(shared, { ...options, maxVersions: 1 })).toBe(1);
      expect(applied).toEqual(['1>2', '2>3', '2>3']);
    }));
});

test('a follower that is killed in the middle goes on, and leaves nothing half', { timeout: 120_000 }, () =>
  withPlaces(async ({ shared, local }) => {
    const source = join(shared, '..', 'source');
    const tensors = Array.from({ length: 8 }, (_, i) => ({ name: `w${i}`, dtype: 'F32', shape: [1 << 20] }));
    await writeCheckpoint(source, tensors, { shards: 4 });
    await publish(source, { directory: shared, version: 1, fsync: false });
    const main = fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url));
    const child = spawn(process.execPath, [main, 'follow', shared, '--into', local], { stdio: 'ignore' });
    const partials = async () =>
      (await readdir(join(local, '.weightcast')).catch(() => [])).filter(
        (name) => parseLeftover(name) !== null,
      );
    await expect.poll(partials, { interval: 1, timeout: 60_000 }).not.toEqual([]);
    child.kill('SIGKILL');
    await once(child, 'close');
    const before = await heldIn(local);
    await followFor(shared, local, 1 - before.length);
    expect(await heldIn(local)).toEqual([1]);
    await using opened = await openPublished(local);
    expect(opened.verified).toBe('all');
    expect(await partials()).toEqual([]);
  }),
);
