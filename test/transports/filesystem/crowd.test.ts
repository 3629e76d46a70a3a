/** One publisher at full speed, eight readers, retention on: processes of their own. WEIGHTCAST_CROWD_VERSIONS=10000 makes it long, and says what it saw. */
import { randomInt } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { parseLeftover } from '../../../src/transports/filesystem/layout.js';
import { listPublished } from '../../../src/transports/filesystem/published/list.js';
import { openPublished } from '../../../src/transports/filesystem/published/open.js';
import { prune } from '../../../src/transports/filesystem/retention/prune.js';
import { writeCheckpoint } from '../../../src/weights/write.js';
import { withDirectory } from '../../weights/files.js';
import { growth, type Member, start } from './crowd/crowd.js';

const VERSIONS = Number(process.env['WEIGHTCAST_CROWD_VERSIONS'] ?? 300);
const READERS = 8;
const SOURCES = 3;
const MIB = 2 ** 20;
/** What a heap may gain without being a leak: it is measured a few hundred rounds after the start. */
const RSS_SLACK = 48 * MIB;

async function writeSources(folder: string): Promise<void> {
  const tensors = Array.from({ length: 12 }, (_, i) => ({
    name: `layers.${i}.w`,
    dtype: 'BF16',
    shape: [64, 32],
  }));
  for (let seed = 0; seed < SOURCES; seed += 1) {
    await writeCheckpoint(join(folder, `source-${seed}`), tensors, { seed, shards: 2 });
  }
}

async function withCrowd(use: (directory: string, sources: string) => Promise<void>): Promise<void> {
  await withDirectory(async (folder) => {
    const sources = join(folder, 'sources');
    await writeSources(sources);
    await use(join(folder, 'published'), sources);
  });
}

async function leftovers(directory: string): Promise<string[]> {
  return (await readdir(join(directory, '.weightcast'))).filter((name) => parseLeftover(name) !== null);
}

test(
  `nobody reads a torn version, misses a file or grows, over ${VERSIONS} versions`,
  { timeout: 120_000 + VERSIONS * 1_000 },
  () =>
    withCrowd(async (directory, sources) => {
      const readers = Array.from({ length: READERS }, () => start('read', directory, sources));
      const publisher = start('publish', directory, sources, 0, VERSIONS);
      try {
        const failed = Promise.all(readers.map(({ done }) => done));
        const published = await Promise.race([publisher.done, failed.then(() => null)]);
        for (const { child } of readers) child.stdin?.end();
        const done = await failed;
        expect(published?.removed).toBeGreaterThanOrEqual(VERSIONS - 2 - READERS);
        const reads = done.map((one) => one?.reads ?? 0);
        expect(Math.min(...reads)).toBeGreaterThan(0);
        const grown = [published, ...done].map((one) => growth(one?.samples ?? []));
        if (process.env['WEIGHTCAST_CROWD_VERSIONS'] !== undefined) {
          const seen = { seconds: published?.seconds, removed: published?.removed, reads, grown };
          process.stderr.write(`${JSON.stringify({ versions: VERSIONS, ...seen })}\n`);
        }
        for (const { fds, rssBytes } of grown) {
          expect(fds).toBeLessThanOrEqual(2);
          expect(rssBytes).toBeLessThan(RSS_SLACK);
        }
        await prune(directory, { graceMs: 0 });
        expect((await listPublished(directory)).map(({ version }) => version)).toEqual([
          VERSIONS - 1,
          VERSIONS - 2,
        ]);
        expect(await leftovers(directory)).toEqual([]);
      } finally {
        for (const { child } of [publisher, ...readers]) child.kill('SIGKILL');
      }
    }),
);

test(
  'publishers and readers that are killed at any moment leave nothing torn, and nothing behind',
  { timeout: 180_000 },
  () =>
    withCrowd(async (directory, sources) => {
      const KILLS = 16;
      const readers: Member[] = [];
      const newest = async () => (await listPublished(directory))[0]?.version ?? -1;
      let publisher = start('publish', directory, sources, 0, 100_000);
      try {
        for (let i = 0; i < READERS / 2; i += 1) readers.push(start('read', directory, sources));
        for (let kill = 0; kill < KILLS; kill += 1) {
          const before = await newest();
          // Not before it has published something: each takes its own time to come up.
          await Promise.race([
            expect.poll(newest, { interval: 20, timeout: 60_000 }).toBeGreaterThan(before),
            publisher.done.then(() => expect.unreachable('the publisher ended')),
          ]);
          // At any moment of the next one.
          await sleep(randomInt(100));
          if (kill % 2 === 0) {
            publisher.child.kill('SIGKILL');
            expect(await publisher.done).toBeNull();
            publisher = start('publish', directory, sources, (await newest()) + 1, 100_000);
          } else {
            const at = randomInt(readers.length);
            const { child, done } = readers[at] as Member;
            child.kill('SIGKILL');
            expect(await done).toBeNull();
            readers[at] = start('read', directory, sources);
          }
        }
        publisher.child.kill('SIGKILL');
        await publisher.done;
        for (const { child } of readers) child.stdin?.end();
        await Promise.all(readers.map(({ done }) => done));
        // Dead readers hold what they read until their leases are over.
        await prune(directory, { graceMs: 0, leaseTtlMs: 1 });
        for (const { version } of await listPublished(directory)) {
          await using opened = await openPublished(directory, { version });
          expect(opened.verified).toBe('all');
        }
        expect(await listPublished(directory)).toHaveLength(2);
        expect(await leftovers(directory)).toEqual([]);
      } finally {
        for (const { child } of [publisher, ...readers]) child.kill('SIGKILL');
      }
    }),
);
