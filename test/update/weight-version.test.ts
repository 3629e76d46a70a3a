import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import type { EngineLink } from '../../src/fleet/engine.js';
import { writeTinyModel } from '../../src/testing/index.js';
import type { Attempt } from '../../src/update/attempt.js';
import { Ledger } from '../../src/update/ledger.js';
import { requireVersions } from '../../src/update/read-back.js';
import { resolveSettings } from '../../src/update/settings.js';
import { checkpointTag, tagFor } from '../../src/update/tag.js';
import { openCheckpoint } from '../../src/weights/checkpoint.js';
import { scriptedProxy } from './proxy.js';
import { failedReport, isPaused, withBench } from './support.js';

vi.setConfig({ testTimeout: 120_000 });

it.each(['nccl', 'filesystem'] as const)(
  'quarantines an engine that says another version than the one it was given by %s',
  async (transport) => {
    await withBench({ engines: 2, workers: 1 }, async ({ connect, urls, b }) => {
      await using proxy = await scriptedProxy(urls[1] as string);
      const session = await connect({ engines: [urls[0] as string, proxy.url], transport, verify: 'none' });
      // The first time is before the pause.
      proxy.on('/weight_info', { kind: 'rewrite', body: () => ({ weight_version: 'stale' }) }, 2);
      const report = await failedReport(session.update(b, { version: '7' }));
      expect(report.engines.map(({ state }) => state)).toEqual(['serving-new', 'quarantined']);
      expect(report.engines[1]).toMatchObject({
        weightVersion: 'stale',
        error: { code: 'WC_VERIFY_MISMATCH', phase: 'verify' },
      });
      expect(await Promise.all(urls.map(isPaused))).toEqual([false, true]);
    });
  },
);

it('tells of an engine whose version cannot be read back, and lets it serve', async () => {
  await withBench({ engines: 1, workers: 1 }, async ({ connect, urls, b }) => {
    await using proxy = await scriptedProxy(urls[0] as string);
    const session = await connect({ engines: [proxy.url], verify: 'none' });
    proxy.on('/weight_info', { kind: 'answer', status: 400, body: { error: 'not now' } }, 2);
    const report = await session.update(b, { version: '7' });
    expect(report.outcome).toBe('updated');
    expect(report.notes).toEqual([expect.stringContaining('could not be read back: ')]);
  });
});

it.each([
  [true, 'quarantined'],
  [false, 'received'],
] as const)('holds a tag that it made against bytes that it sent, and no others: %s', async (sent, state) => {
  const url = 'http://engine';
  const engine = {
    id: url,
    admin: { capabilities: { needsWeightVersion: true }, weightVersion: () => 'question' },
    call: async () => '7',
  } as unknown as EngineLink;
  const ledger = new Ledger([{ id: url, url, backend: 'dynamo' }], () => undefined);
  if (sent) ledger.received(url, 'nccl');
  else ledger.set(url, 'received', 'left paused with a whole new version');
  const checkpoint = { path: '/checkpoints/step_7', files: [{ path: '/checkpoints/step_7/a', stamp: '1' }] };
  const settings = resolveSettings({ engines: [url], stateDir: null });
  const attempt = { settings, ledger, version: null, checkpoint } as unknown as Attempt;
  await requireVersions(attempt, [engine]);
  expect(ledger.state(url)).toBe(state);
});

it('makes a tag of the checkpoint for engines that need one', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'weightcast-tag-'));
  try {
    const [a, b] = [join(folder, 'step 1'), join(folder, 'b')];
    await writeTinyModel(a, { seed: 1 });
    await writeTinyModel(b, { seed: 2 });
    const [one, other] = [await openCheckpoint(a), await openCheckpoint(b)];
    const link = (needsWeightVersion?: boolean) =>
      ({ admin: { capabilities: { needsWeightVersion } } }) as unknown as EngineLink;
    expect(tagFor({ version: null, checkpoint: one }, link())).toBeNull();
    expect(tagFor({ version: '7', checkpoint: one }, link(true))).toBe('7');
    expect(tagFor({ version: null, checkpoint: { ...one, files: [] } }, link(true))).toBeNull();
    const tag = tagFor({ version: null, checkpoint: one }, link(true));
    expect(tag).toMatch(/^step_1-[0-9a-f]{12}$/);
    expect(checkpointTag(await openCheckpoint(a))).toBe(tag);
    expect(checkpointTag(other).slice(-12)).not.toBe(tag?.slice(-12));
  } finally {
    await rm(folder, { recursive: true });
  }
});
