/** The process that is struck: does one task at a time of the built product, and says how it ended. See child.ts. */
import { followPublished } from '../../dist/transports/filesystem/follow/index.js';
import { publish } from '../../dist/transports/filesystem/publish/index.js';
import { prune } from '../../dist/transports/filesystem/retention/index.js';

const FOLLOW_MS = 120_000;

const TASKS = {
  publish: ({ source, ...options }) => publish(source, options),
  follow: ({ shared, ...options }) =>
    followPublished(shared, { ...options, pollMs: 5, signal: AbortSignal.timeout(FOLLOW_MS) }),
  prune: async ({ directory, ...options }) => {
    const [failed] = (await prune(directory, options)).failed;
    if (failed === undefined) return;
    const errnoName = /\bE[A-Z]{2,}\b/.exec(failed.reason)?.[0];
    const facts = { name: 'WeightcastError', code: 'WC_FILE_WRITE', details: { errnoName } };
    throw Object.assign(new Error(failed.reason), facts);
  },
};

process.on('message', async ({ task, options }) => {
  try {
    await TASKS[task](options);
    process.send({ error: null });
  } catch (error) {
    const { name, code = null, message, details = {}, remedy = null } = error;
    process.send({ error: { name, code, message, errnoName: details.errnoName ?? null, remedy } });
  }
});
process.on('disconnect', () => process.exit());
process.send('ready');
