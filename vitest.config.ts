import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { defineConfig } from 'vitest/config';
import { RetriedReporter } from './test/retried.js';
import { UnfinishedReporter } from './test/unfinished.js';

/** Claims and journals of the tests, also of processes that they kill: away from the user's own. */
const state = mkdtempSync(join(tmpdir(), 'weightcast-state-'));
process.once('exit', () => rmSync(state, { recursive: true, force: true }));

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/peers/**', 'test/teardown/**', 'node_modules/**'],
    env: { WEIGHTCAST_STATE_DIR: state },
    pool: 'forks',
    // Most tests wait for processes of their own: one at a time leaves a core idle.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    reporters: ['default', new UnfinishedReporter(), new RetriedReporter()],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // A second, which it is by default, is nothing on a shared machine.
    expect: { poll: { timeout: 20_000 } },
  },
});
