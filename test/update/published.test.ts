/** Versions of a publication directory that are pushed by files: looked at before anybody is paused, and kept from retention while engines load them. */
import { mkdir, readdir, rename, truncate, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';
import { loadLoraAdapter, updateWeights } from '../../src/operations/index.js';
import { leasedVersions } from '../../src/transports/filesystem/lease/live.js';
import { leaseFolder } from '../../src/transports/filesystem/lease/place.js';
import { writeManifest } from '../../src/transports/filesystem/manifest.js';
import { Gate } from '../faults/gate.js';
import { fakeAdmin, withFakes } from '../operations/fake-engine.js';
import { manifestFor } from '../transports/filesystem/publication.js';
import { failedReport, postsTo, withBench } from './support.js';

/** Makes a checkpoint a version of a publication directory. */
async function publish(checkpoint: string, version: number): Promise<string> {
  const directory = join(dirname(checkpoint), 'published');
  await mkdir(directory, { recursive: true });
  const step = join(directory, `step_${version}`);
  await rename(checkpoint, step);
  await writeManifest(step, await manifestFor(step, version), { sync: false });
  await writeFile(join(step, 'STABLE'), '');
  return step;
}

it('holds a version for as long as engines load it', async () => {
  await withBench({ engines: 1, workers: 1 }, async ({ connect, urls, b, c }) => {
    const step = await publish(b, 7);
    const directory = dirname(step);
    const held: ReadonlySet<number>[] = [];
    const gate = await Gate.open(urls[0] as string);
    gate.decide(({ path }) =>
      path === '/collective_rpc'
        ? {
            forward: 'now',
            reply: { kind: 'pass' },
            before: async () => void held.push(await leasedVersions(directory, 60_000)),
          }
        : null,
    );
    const session = await connect({ engines: [gate.url], transport: 'filesystem', verify: 'none' });
    expect(await session.update(step)).toMatchObject({ outcome: 'updated' });
    expect(held[0]).toEqual(new Set([7]));
    expect(await leasedVersions(directory, 60_000)).toEqual(new Set());
    // What nobody has published is pushed as it always was.
    expect(await session.update(c)).toMatchObject({ outcome: 'updated' });
    await session.close();
    await gate.close();
  });
});

it.each(['filesystem', 'nccl'] as const)(
  'refuses a version that was cut off before anybody is paused (%s)',
  async (transport) => {
    await withBench({ engines: 1, workers: 1 }, async ({ connect, engines, b }) => {
      const step = await publish(b, 7);
      const config = join(step, (await readdir(step)).find((name) => name.endsWith('.json')) as string);
      await truncate(config, 1);
      const session = await connect({ transport, verify: 'none' });
      const report = await failedReport(session.update(step));
      expect(report).toMatchObject({
        outcome: 'failed',
        error: { code: 'WC_VERSION_CORRUPT' },
        pauseMs: null,
      });
      expect(await postsTo(engines[0] as never)).not.toContain('/pause');
      expect(await readdir(leaseFolder(dirname(step)))).not.toContainEqual(expect.stringMatching(/^step_/));
    });
  },
);

it('asks nobody to load a version that was cut off, nor an adapter, without a session either', async () => {
  await withBench({ engines: 1, workers: 1 }, async ({ b }) => {
    const step = await publish(b, 7);
    await truncate(join(step, 'model-00001-of-00003.safetensors'), 1);
    await withFakes([{}], async (engines) => {
      const urls = engines.map(({ url }) => url);
      const options = { admin: fakeAdmin };
      const corrupt = { code: 'WC_VERSION_CORRUPT' };
      await expect(updateWeights(urls, step, options)).rejects.toMatchObject(corrupt);
      await expect(loadLoraAdapter(urls, 'policy', step, options)).rejects.toMatchObject(corrupt);
      expect(engines[0]?.asked).toEqual([]);
    });
  });
});

it('says that it can not keep retention away where it may not write, and goes on', async () => {
  await withBench({ engines: 1, workers: 1 }, async ({ connect, b }) => {
    const step = await publish(b, 7);
    await writeFile(join(dirname(step), '.weightcast'), 'in the way');
    const session = await connect({ transport: 'filesystem', verify: 'none' });
    const report = await session.update(step);
    expect(report.outcome).toBe('updated');
    expect(report.notes.join()).toContain('retention is not kept');
  });
});
