import { defineConfig } from 'vitest/config';
import { RetriedReporter } from './test/retried.js';
import { UnfinishedReporter } from './test/unfinished.js';

/** How processes and Workers that use the addon end, on three Nodes; and the addon's own tests in Workers, which tear its environment down. */
export default defineConfig({
  test: {
    reporters: ['default', new UnfinishedReporter(), new RetriedReporter()],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    projects: [
      { extends: true, test: { name: 'teardown', include: ['test/teardown/*.test.ts'], pool: 'forks' } },
      {
        extends: true,
        test: { name: 'native in Workers', include: ['test/native/*.test.ts'], pool: 'threads' },
      },
    ],
  },
});
