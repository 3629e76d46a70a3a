import { expect, it } from 'vitest';
import { WeightcastError } from '../../src/errors.js';
import type { CallOptions, EngineLink } from '../../src/fleet/engine.js';
import type { Attempt } from '../../src/update/attempt.js';
import { Ledger } from '../../src/update/ledger.js';
import { pauseEngine } from '../../src/update/pause-engine.js';
import { resolveSettings } from '../../src/update/settings.js';

it('has one deadline for the question before it, the pause, and the pause in another mode', async () => {
  const url = 'http://engine';
  const calls: { readonly what: string; readonly timeoutMs: number }[] = [];
  let clock = 0;
  const takes = 300;
  const engine = {
    id: url,
    url,
    backend: 'dynamo',
    admin: {
      capabilities: {},
      runningRequests: () => 'question',
      pause: ({ mode }: { readonly mode: string }) => mode,
    },
    call: async (what: string, { timeoutMs = Infinity }: CallOptions) => {
      calls.push({ what, timeoutMs });
      clock += takes;
      if (what === 'abort')
        throw new WeightcastError('WC_ENGINE_HTTP', 'not now', { details: { fallbackPauseMode: 'wait' } });
      return 0;
    },
  } as unknown as EngineLink;
  const attempt = {
    settings: resolveSettings({ engines: [url], stateDir: null, pauseMode: 'abort' }),
    ledger: new Ledger([engine], () => undefined),
  } as unknown as Attempt;
  const now = performance.now;
  performance.now = () => clock;
  try {
    await pauseEngine(attempt, engine, { timeoutMs: 2_000 });
  } finally {
    performance.now = now;
  }
  expect(calls).toEqual([
    { what: 'question', timeoutMs: 500 },
    { what: 'abort', timeoutMs: 2_000 - takes },
    { what: 'wait', timeoutMs: 2_000 - 2 * takes },
  ]);
});
