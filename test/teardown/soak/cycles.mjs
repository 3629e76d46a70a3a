// What the soak does over and over, each time with a fresh rendezvous: every way in which a communicator's life ends.
import { group, nextTurn, until } from '../scenario/addon.mjs';
import { filePlan, MIB } from '../scenario/states.mjs';

const LIMIT_MS = 30_000;

/** Two ranks, and as many rounds of a broadcast as the seed says. */
async function exchange(runtime, next) {
  const ranks = await group(runtime, 2);
  const byteLength = 1 + Math.floor(next() * 256 * 1024);
  const buffers = await Promise.all(ranks.map((rank) => rank.allocate(byteLength)));
  const broadcast = (rank) =>
    ranks[rank].broadcast({ buffer: buffers[rank], offset: 0, byteLength, root: 0, timeoutMs: LIMIT_MS });
  for (let rounds = 1 + Math.floor(next() * 3); rounds > 0; rounds -= 1) {
    await Promise.all([broadcast(0), broadcast(1)]);
  }
  return ranks;
}

const leave = (communicator) => communicator.destroy(LIMIT_MS);
const abort = (communicator) => communicator.abort().then(() => leave(communicator));

async function expectCode(pending, code) {
  const actual = await pending.then(
    () => 'none',
    (error) => error.code,
  );
  if (actual !== code) throw new Error(`an operation ended with ${actual}, not ${code}`);
}

/** Lets between 0 and 15 turns of the event loop pass. */
async function someTurns(next) {
  for (let turns = Math.floor(next() * 16); turns > 0; turns -= 1) await nextTurn();
}

export const cycles = {
  async 'init-broadcast-destroy'(runtime, next) {
    await Promise.all((await exchange(runtime, next)).map(leave));
  },
  async 'init-broadcast-abort'(runtime, next) {
    await Promise.all((await exchange(runtime, next)).map(abort));
  },
  /** Aborted somewhere in a broadcast that its receiver never calls. */
  async 'init-stalled broadcast-abort'(runtime, next) {
    const [sender, receiver] = await group(runtime, 2);
    const byteLength = 16 * MIB;
    const buffer = await sender.allocate(byteLength);
    const pending = sender.broadcast({ buffer, offset: 0, byteLength, root: 0, timeoutMs: LIMIT_MS });
    const ended = expectCode(pending, 'WC_NCCL_ABORTED');
    await someTurns(next);
    await Promise.all([abort(sender), abort(receiver), ended]);
  },
  async 'init with a missing peer-abort'(runtime, next) {
    const communicator = await runtime.communicator(0);
    const uniqueId = await runtime.uniqueId();
    const pending = communicator.init({ uniqueId, worldSize: 2, rank: 0, timeoutMs: LIMIT_MS });
    const ended = expectCode(pending, 'WC_NCCL_ABORTED');
    await until(() => communicator.state === 'initializing', 'the init began');
    await someTurns(next);
    await Promise.all([abort(communicator), ended]);
  },
  async 'prepare-close'(runtime) {
    const communicator = await runtime.communicator(0);
    const transfer = await communicator.prepare(filePlan(), 30_000);
    await transfer.close();
    await leave(communicator);
  },
  /** Left to the collector. */
  async 'init-broadcast-forget'(runtime, next) {
    await exchange(runtime, next);
  },
};
