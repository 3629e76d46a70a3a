/**
 * Disks that are full, over their quota or broken from some call on, while a delta is published or applied. test/crash strikes each call once; this is what
 * users then read, and that it says how to mend it.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { followPublished } from '../../../../src/transports/filesystem/follow/index.js';
import { publish } from '../../../../src/transports/filesystem/publish/index.js';
import { listPublished, openPublished } from '../../../../src/transports/filesystem/published/index.js';
import { MAIN, Spawned } from '../../../cli/spawned.js';
import { Children, type Task } from '../../../crash/child.js';
import { type Fault, FaultControl, type Kind, NO_FAULT } from '../../../crash/control.js';
import { buildPreload } from '../../../crash/preload/build.js';
import { withDirectory } from '../../../crash/scenario.js';
import { TENSOR_BYTES, writeVersion } from '../../../crash/weights.js';
import { everythingIn, requireWhole } from '../publish/support.js';

const LONG = 240_000;
/** From the first call to the last: every one of them takes minutes, and test/crash does that. */
const POINTS = 5;
const SHARDS = { shardBytes: TENSOR_BYTES };

let root: string;
let library: string;
/** Two versions; published, the first in full, and held, the first. */
let sources: readonly string[];
let shared: string;
let before: { readonly published: string; readonly held: string };

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'weightcast-full-'));
  library = buildPreload(root);
  sources = [await writeVersion(root, 1, 3, 1), await writeVersion(root, 2, 3, 1)];
  before = { published: join(root, 'published'), held: join(root, 'held') };
  shared = join(root, 'shared');
  for (const directory of [before.published, shared]) {
    await publish(sources[0] as string, { directory, version: 1, ...SHARDS });
  }
  await publish(sources[1] as string, { directory: shared, version: 2, delta: true });
  await publish(sources[0] as string, { directory: before.held, version: 1, ...SHARDS });
});
afterAll(() => rm(root, { recursive: true, force: true }));

/** What a process does to a directory that begins as `template`, and does again once there is room. */
interface Doing {
  readonly template: () => string;
  task(directory: string): Task;
  again(directory: string): Promise<unknown>;
}

const PUBLISH: Doing = {
  template: () => before.published,
  task: (directory) => ({
    task: 'publish',
    options: { source: sources[1], directory, version: 2, delta: true },
  }),
  again: (directory) => publish(sources[1] as string, { directory, version: 2, delta: true }),
};
const FOLLOW: Doing = {
  template: () => before.held,
  task: (into) => ({ task: 'follow', options: { shared, into, maxVersions: 1 } }),
  again: (into) =>
    followPublished(shared, { into, maxVersions: 1, pollMs: 5, signal: AbortSignal.timeout(60_000) }),
};

/** Leases come and go with their folder. */
const leftIn = async (directory: string) =>
  (await everythingIn(directory)).filter((name) => name !== '.weightcast/leases');

const versionsIn = async (directory: string) =>
  (await listPublished(directory)).map(({ version }) => version).sort();

describe.each([
  ['publishing a delta', PUBLISH],
  ['following one', FOLLOW],
] as const)('%s', (_, { template, task, again }) => {
  it.each([
    ['ENOSPC', ['write', 'fallocate'], 'weightcast prune'],
    ['EDQUOT', ['write', 'fallocate'], 'quota'],
    ['EIO', ['write', 'fsync'], 'dmesg'],
  ] as const)(
    'that meets %s, from some call on, says what to do and leaves nothing; the next one does it',
    { timeout: LONG },
    async (error, kinds, advice) => {
      await using children = new Children(library, root);
      const run = (fault: Fault, judge: (directory: string, ended: Ended) => Promise<void>) =>
        withDirectory(root, template(), async (directory) =>
          judge(directory, await children.run(directory, fault, task(directory))),
        );
      let count = 0;
      await run({ ...NO_FAULT, kinds }, async (_, { calls }) => {
        count = calls.length;
      });
      expect(count).toBeGreaterThan(5);
      let failed = 0;
      for (let point = 0; point < POINTS; point += 1) {
        const at = 1 + Math.round((point * (count - 1)) / (POINTS - 1));
        await run({ act: 'full', at, error, kinds }, async (directory, { error: thrown, hit }) => {
          if (hit === null) return;
          const done = (await versionsIn(directory)).includes(2);
          // Once it is there, only what else it does can fail: pruning.
          if (thrown === null) return expect(done).toBe(true);
          failed += 1;
          expect(thrown).toMatchObject({
            ...{ code: 'WC_FILE_WRITE', errnoName: error },
            remedy: expect.stringContaining(advice),
            message: expect.stringContaining(directory),
          });
          if (!done) expect(await leftIn(directory)).toEqual(await leftIn(template()));
          if (!done) await again(directory);
          await requireWhole(join(directory, 'step_1'));
          await using made = await openPublished(directory, { version: 2, verify: 'all' });
          expect(made.version).toBe(2);
          const own = (await leftIn(directory)).filter((name) => name.startsWith('.weightcast/'));
          expect(own.filter((name) => !name.startsWith('.weightcast/leases/'))).toEqual([]);
        });
      }
      expect(failed).toBeGreaterThan(POINTS / 2);
    },
  );
});

type Ended = Awaited<ReturnType<Children['run']>>;

/** The command line with the fault in what lies under `folder`. */
async function commanded(args: readonly string[], folder: string, fault: Fault) {
  using control = new FaultControl(join(root, `control-${args[0]}`));
  control.arm(folder, fault);
  const env = { LD_PRELOAD: library, WEIGHTCAST_FAULT_CONTROL: control.path, UV_USE_IO_URING: '0' };
  await using spawned = new Spawned([MAIN, ...args], env);
  return await spawned.ended;
}

it.each([
  ['publish', PUBLISH, (directory: string) => [sources[1], '--into', directory, '--version', '2', '--delta']],
  ['follow', FOLLOW, (directory: string) => [shared, '--into', directory, '--max-versions', '1']],
] as const)('weightcast %s says so and ends', { timeout: LONG }, (command, { template }, argsOf) =>
  withDirectory(root, template(), async (directory) => {
    const kinds: readonly Kind[] = ['fallocate', 'write'];
    const args = [command, ...(argsOf(directory) as string[])];
    const { code, err } = await commanded(args, directory, { act: 'full', at: 4, error: 'ENOSPC', kinds });
    expect({ code, err }).toEqual({ code: 1, err: expect.stringMatching(/ENOSPC|No space left on device/) });
    expect(err).toContain('remedy: Make room (weightcast prune');
    expect(await versionsIn(directory)).toEqual([1]);
  }),
);
