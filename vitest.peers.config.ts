import { defineConfig } from 'vitest/config';
import { RetriedReporter } from './test/retried.js';

/** Lanes against software that this project did not write; one real server at a time. */
export default defineConfig({
  test: {
    include: ['test/peers/**/*.test.ts'],
    setupFiles: ['test/state-directory.ts'],
    pool: 'forks',
    fileParallelism: false,
    maxWorkers: 1,
    testTimeout: 300_000,
    hookTimeout: 900_000,
    reporters: ['verbose', new RetriedReporter()],
  },
});
