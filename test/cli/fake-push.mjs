/** A real process that runs the built command line against a session which only waits for its signal: FAKE says what it does then. */
import { exitAfterFlush, processIo } from '../../dist/cli/io.js';
import { run } from '../../dist/cli/run.js';
import { UpdateError } from '../../dist/update/error.js';

const { FAKE } = process.env;
const states = FAKE === 'untouched' ? ['serving-old'] : ['serving-old', 'paused', 'serving-old'];

function interrupted() {
  const url = 'http://10.0.0.5:8000';
  const history = states.map((state, atMs) => ({ state, atMs, reason: null }));
  const unknown = {
    engineVersion: null,
    workers: null,
    transport: null,
    pausedMs: null,
    weightVersion: null,
  };
  const engine = {
    id: url,
    url,
    dialect: 'vllm',
    state: 'serving-old',
    history,
    proof: null,
    error: null,
    ...unknown,
  };
  const weights = { path: '/weights', tensors: 0, bytes: 0, files: 0, digest: null };
  const nothing = {
    version: null,
    pauseMs: null,
    transfer: null,
    memory: null,
    nccl: null,
    delta: null,
    error: null,
  };
  const facts = { outcome: 'failed', transport: 'nccl', emulated: false, phases: [], notes: [] };
  return new UpdateError('WC_UPDATE_ABORTED', 'interrupted', {
    ...facts,
    ...nothing,
    weights,
    engines: [engine],
  });
}

async function update(fleet, { signal }) {
  fleet.onEvent({ kind: 'phase', phase: FAKE === 'untouched' ? 'preflight' : 'pause' });
  await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
  if (FAKE === 'stuck') await new Promise(() => {});
  throw interrupted();
}

// Stands for the sockets that a real session has open: without any, node ends.
setInterval(() => {}, 1000);

const code = await run(process.argv.slice(2), {
  io: processIo(),
  source: process,
  exit: (exitCode) => process.exit(exitCode),
  connect: async (fleet) => {
    if (FAKE === 'connecting') {
      process.stderr.write('connecting\n');
      await new Promise(() => {});
    }
    return { update: (_, options) => update(fleet, options), close: async () => {} };
  },
});
await exitAfterFlush(code);
