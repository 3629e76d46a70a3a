import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { RetriedReporter } from './test/retried.js';
import { UnfinishedReporter } from './test/unfinished.js';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/peers/**', 'test/teardown/**', 'node_modules/**'],
    setupFiles: ['test/state-directory.ts'],
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
