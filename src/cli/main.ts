#!/usr/bin/env node
import { exitAfterFlush, processIo } from './io.js';
import { run } from './run.js';

const code = await run(process.argv.slice(2), {
  io: processIo(),
  source: process,
  exit: (exitCode) => process.exit(exitCode),
  connect: async (options) => (await import('../update/index.js')).connectFleet(options),
});
await exitAfterFlush(code);
