import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../../peers/support/process.js';
import { type EndingName, expectEnds, type StateName, states } from '../support/endings.js';
import { collectedBusy, collectedIdle, expectWell, ROOM } from '../support/handles.js';
import { buildSanitized, type Sanitized, type Sanitizer } from './build.js';

/** Sanitized code on a busy machine takes many times as long. */
const SLOW = { limitMs: 240_000, endLimitMs: 120_000 };
const BUILD_TIMEOUT_MS = 3_600_000;

/** All ways through the addon's own code at an end; the whole list runs without a sanitizer. */
const chosen: readonly EndingName[] = [
  'natural end',
  'process.exit',
  'natural end of a Worker',
  'worker.terminate()',
];

/** The addon under Node with a sanitizer: the same scenarios and its own tests; anything that the sanitizer says in any process fails. */
export function describeSanitized(sanitizer: Sanitizer): void {
  describe(`with -fsanitize=${sanitizer}`, { timeout: 300_000 }, () => {
    let sanitized: Sanitized;
    beforeAll(async () => {
      sanitized = await buildSanitized(sanitizer);
    }, BUILD_TIMEOUT_MS);
    afterEach(async () => {
      expect(await sanitized.takeReports()).toBe('');
    });
    /** Leaks are looked for where a process ends by itself, with nothing under way. */
    const env = (leaks = false) => (leaks && sanitizer === 'address' ? sanitized.leakEnv : sanitized.env);

    describe.each(Object.keys(states) as StateName[])('%s', (state) => {
      it.each(chosen)('%s', (ending) =>
        expectEnds(state, ending, { ...SLOW, env: env(ending.startsWith('natural end')) }),
      );
    });

    it.each(collectedIdle)('collects an idle %s', (kind) =>
      expectWell('collect.mjs', ['idle', kind], { ...SLOW, env: { ...env(true), ...ROOM } }),
    );
    it.each(collectedBusy)('ends the work of a %s that is collected meanwhile', (kind) =>
      expectWell('collect.mjs', ['busy', kind], { ...SLOW, env: env(true) }),
    );
    it('closes every handle twice', () => expectWell('close-twice.mjs', [], { ...SLOW, env: env(true) }));
    it('survives 20 Workers that end at random instants', () =>
      expectWell('many-workers.mjs', ['3'], { ...SLOW, env: env() }));

    // Vitest's own bundler, which is not instrumented, gives ThreadSanitizer a hundred reports and takes minutes under it.
    it.runIf(sanitizer === 'address')(
      "finds nothing in the addon's own tests",
      async () => {
        // Their limits of time don't hold in sanitized code: what they expect is judged without it.
        const args = ['vitest', 'run', 'test/native', '--testTimeout', '240000'];
        const { stdout } = await run('npx', args, { env: env(), timeoutMs: 600_000 });
        expect(stdout).toMatch(/Test Files .*passed/);
      },
      660_000,
    );
  });
}
