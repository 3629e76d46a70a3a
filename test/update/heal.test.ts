/** Engines of which only one answer matters, for what follows it. */
import { expect, it } from 'vitest';
import type { CallOptions, EngineLink } from '../../src/fleet/engine.js';
import type { Attempt } from '../../src/update/attempt.js';
import { NO_JOURNAL } from '../../src/update/claim/journal.js';
import type { DigestBook } from '../../src/update/digests.js';
import { heal } from '../../src/update/heal.js';
import { Ledger } from '../../src/update/ledger.js';
import { resume } from '../../src/update/pause.js';
import { resolveSettings } from '../../src/update/settings.js';

const [NEW, OLD] = ['http://new', 'http://old'];

/** `NEW` received everything, `OLD` nothing; each call is answered by `answers`. */
function fleetOf(answers: (engine: string, operation: string) => Promise<unknown>) {
  const asked: string[] = [];
  const engines = [NEW, OLD].map(
    (id) =>
      ({
        id,
        url: id,
        backend: 'vllm',
        admin: {
          capabilities: { diskLoad: false },
          pause: () => 'pause',
          resume: () => 'resume',
          isPaused: () => null,
        },
        call: (operation: string, _: CallOptions) => {
          asked.push(`${operation} ${id}`);
          return answers(id, operation);
        },
      }) as unknown as EngineLink,
  );
  const ledger = new Ledger(engines, () => undefined);
  ledger.set(NEW, 'received');
  ledger.set(OLD, 'paused');
  const attempt = {
    settings: resolveSettings({ engines: [NEW, OLD], stateDir: null }),
    engines,
    ledger,
    journal: NO_JOURNAL,
    facts: new Map(),
    checkpoint: { path: null, files: [], tensors: [], byteLength: 0, metadata: new Map() },
    signal: new AbortController().signal,
  } as unknown as Attempt;
  return { attempt, asked, engines };
}

it('resumes no untouched engine while another one may be serving the new version', async () => {
  const { attempt, asked, engines } = fleetOf(() => Promise.reject(new Error('no answer')));
  await resume(attempt, engines.slice(0, 1), 'serving-new');
  await heal(attempt, null as unknown as DigestBook);
  expect(attempt.ledger.in('quarantined')).toEqual([NEW, OLD]);
  expect(asked).not.toContain(`resume ${OLD}`);
});

it('resumes the untouched ones once that one is paused again', async () => {
  const { attempt, asked, engines } = fleetOf((_, operation) =>
    operation === 'pause' || asked.includes(`pause ${NEW}`)
      ? Promise.resolve(undefined)
      : Promise.reject(new Error('no answer')),
  );
  await resume(attempt, engines.slice(0, 1), 'serving-new');
  await heal(attempt, null as unknown as DigestBook);
  expect(asked).toEqual([`resume ${NEW}`, `pause ${NEW}`, `resume ${OLD}`]);
  expect(attempt.ledger.in('quarantined')).toEqual([NEW]);
  expect(attempt.ledger.in('serving-old')).toEqual([OLD]);
});
