#!/usr/bin/env node
import { exitAfterFlush, processIo } from './io.js';
import { run } from './run.js';

const args = process.argv.slice(2);
// NCCL's own log (NCCL_DEBUG) goes to stdout, where --json promises one document.
if (args.includes('--json')) process.env.NCCL_DEBUG_FILE ??= '/dev/stderr';

const code = await run(args, {
  io: processIo(),
  source: process,
  exit: (exitCode) => process.exit(exitCode),
  connect: async (options) => (await import('../update/index.js')).connectFleet(options),
});
await exitAfterFlush(code);
