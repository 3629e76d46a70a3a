import { defineConfig } from 'vitest/config';
import { RetriedReporter } from './test/retried.js';
import { UnfinishedReporter } from './test/unfinished.js';

/** The addon in Node under AddressSanitizer with UndefinedBehaviorSanitizer, and under ThreadSanitizer. */
export default defineConfig({
  test: {
    include: ['test/teardown/sanitizers/*.test.ts'],
    pool: 'forks',
    reporters: ['verbose', new UnfinishedReporter(), new RetriedReporter()],
  },
});
