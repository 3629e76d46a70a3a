/** What the manifest of a published version has digests of is not hashed a second time. */
import { mkdir, open, rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { native } from '../../src/native.js';
import { writeManifest } from '../../src/transports/filesystem/manifest.js';
import { openCheckpoint } from '../../src/weights/checkpoint.js';
import { manifestFor } from '../transports/filesystem/publication.js';
import { failedReport, withBench } from './support.js';

afterEach(() => vi.restoreAllMocks());

/** Counts the bytes of every digest job of this process from now on. */
function hashedBytes(): () => number {
  const sha256 = vi.spyOn(native(), 'sha256');
  return () =>
    sha256.mock.calls.reduce((sum, [{ segmentBlocks, segmentBlockBytes }]) => {
      return (
        sum + segmentBlocks.reduce((bytes, blocks, i) => bytes + blocks * (segmentBlockBytes[i] ?? 0), 0)
      );
    }, 0);
}

async function publish(checkpoint: string, version: number): Promise<string> {
  const step = join(dirname(checkpoint), 'published', `step_${version}`);
  await mkdir(dirname(step), { recursive: true });
  await rename(checkpoint, step);
  await writeManifest(step, await manifestFor(step, version), { sync: false });
  await writeFile(join(step, 'STABLE'), '');
  return step;
}

test('a first push hashes only the forms that are no whole tensors, and proves every byte all the same', async () => {
  await withBench({ engines: 1, workers: 1 }, async ({ connect, b, c }) => {
    const { byteLength } = await openCheckpoint(b);
    const plain = hashedBytes();
    const one = await (await connect({ verify: 'digest' })).update(c);
    const before = plain();
    expect(before).toBeGreaterThan(byteLength);
    const step = await publish(b, 7);
    const two = await (await connect({ verify: 'digest' })).update(step);
    expect(plain() - before).toBe(before - byteLength);
    expect(two.engines[0]?.proof).toEqual({ ...one.engines[0]?.proof, engineMs: expect.any(Number) });
    expect(two.weights.digest).toMatch(/^[0-9a-f]{64}$/);
    expect(two.weights.digest).not.toBe(one.weights.digest);
  });
});

test('bytes that went bad since they were published are not proved as what they became', async () => {
  await withBench({ engines: 1, workers: 1 }, async ({ connect, b }) => {
    const step = await publish(b, 7);
    const { tensors } = await openCheckpoint(step);
    const norm = tensors.find(({ name }) => name === 'model.norm.weight');
    if (norm?.range.kind !== 'file') throw new Error('no such tensor');
    const file = await open(norm.range.path, 'r+');
    await file.write(Buffer.alloc(norm.range.byteLength), 0, norm.range.byteLength, norm.range.offset);
    await file.close();
    const report = await failedReport((await connect({ verify: 'digest' })).update(step));
    expect(report.engines[0]).toMatchObject({
      state: 'quarantined',
      error: { code: 'WC_VERIFY_MISMATCH', message: expect.stringContaining('that were published') },
    });
  });
});
