/** Checkpoints that somebody writes to while they are pushed by files: engines load them themselves, so rank 0 does not see what they read. */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Gate } from '../faults/gate.js';
import { digestsOf, failedReport, isPaused, withBench } from './support.js';

async function scribble(directory: string): Promise<void> {
  const file = await open(join(directory, 'model-00001-of-00003.safetensors'), 'r+');
  const { size } = await file.stat();
  await file.write(Buffer.from('other bytes'), 0, 11, size - 11);
  await file.close();
}

it.each([
  ['before the engines load it', 'before', 'failed', 'serving-old', false],
  ['while the engines load it', 'after', 'quarantined', 'quarantined', true],
] as const)('serves no checkpoint that was written to %s', async (_, when, outcome, state, paused) => {
  await withBench({ engines: 1, workers: 1 }, async ({ connect, engines, urls, b }) => {
    const gate = await Gate.open(urls[0] as string);
    const held = await digestsOf(engines[0] as never);
    const path = when === 'before' ? '/pause' : '/collective_rpc';
    gate.decide((seen) =>
      seen.path === path ? { forward: 'now', reply: { kind: 'pass' }, [when]: () => scribble(b) } : null,
    );
    const session = await connect({ engines: [gate.url], transport: 'filesystem', verify: 'none' });
    const report = await failedReport(session.update(b));
    expect(report).toMatchObject({ outcome, error: { code: 'WC_CHECKPOINT_CHANGED' }, engines: [{ state }] });
    expect(await isPaused(urls[0] as string)).toBe(paused);
    if (!paused) expect(await digestsOf(engines[0] as never)).toEqual(held);
    await session.close();
    await gate.close();
  });
});

it('heals nobody with a checkpoint that was written to since the push began', async () => {
  await withBench({ engines: 1, workers: 1 }, async ({ connect, urls, b }) => {
    const gate = await Gate.open(urls[0] as string);
    gate.decide(({ path }) =>
      path === '/update_weights'
        ? {
            forward: 'never',
            reply: { kind: 'answer', status: 200, text: '{"message":"Weights updated"}' },
            before: () => scribble(b),
          }
        : null,
    );
    const session = await connect({ engines: [gate.url], fallback: 'filesystem', verify: 'none' });
    const report = await failedReport(session.update(b));
    expect(report).toMatchObject({ outcome: 'quarantined', engines: [{ state: 'quarantined' }] });
    expect(report.notes.join()).toContain('was written to');
    expect(await isPaused(urls[0] as string)).toBe(true);
    await session.close();
    await gate.close();
  });
});
