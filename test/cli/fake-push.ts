/** A real process that runs `weightcast` against a session which only waits for its signal: FAKE says what it does then. */
import { exitAfterFlush, processIo } from '../../src/cli/io.js';
import { run } from '../../src/cli/run.js';
import type { FleetOptions, UpdateOptions } from '../../src/update/types.js';
import { engineReport, updateError } from './fakes.js';

const state = (name: 'serving-old' | 'paused') => ({ state: name, atMs: 1, reason: null });

function interrupted(history: ReturnType<typeof state>[]): Error {
  return updateError({ engines: [engineReport({ state: 'serving-old', history })] });
}

async function update(fleet: FleetOptions, { signal }: UpdateOptions): Promise<never> {
  const paused = process.env.FAKE !== 'untouched';
  fleet.onEvent?.({ kind: 'phase', phase: paused ? 'pause' : 'preflight' });
  await new Promise((resolve) => signal?.addEventListener('abort', resolve, { once: true }));
  if (process.env.FAKE === 'stuck') await new Promise(() => {});
  throw interrupted(paused ? [state('serving-old'), state('paused')] : [state('serving-old')]);
}

// Stands for the sockets that a real session has open: without any, node ends.
setInterval(() => {}, 1000);

const code = await run(process.argv.slice(2), {
  io: processIo(),
  source: process,
  exit: (exitCode) => process.exit(exitCode),
  connect: async (fleet) => {
    if (process.env.FAKE === 'connecting') {
      process.stderr.write('connecting\n');
      await new Promise(() => {});
    }
    return { update: (_, options) => update(fleet, options), close: async () => {} };
  },
});
await exitAfterFlush(code);
