/** The process that is struck: does one task at a time of the built product, and says how it ended. See child.ts. */
import { publish } from '../../dist/transports/filesystem/publish/index.js';

const TASKS = {
  publish: ({ source, ...options }) => publish(source, options),
};

process.on('message', async ({ task, options }) => {
  try {
    await TASKS[task](options);
    process.send({ error: null });
  } catch (error) {
    const { name, code = null, message, details = {} } = error;
    process.send({ error: { name, code, message, errnoName: details.errnoName ?? null } });
  }
});
process.on('disconnect', () => process.exit());
process.send('ready');
