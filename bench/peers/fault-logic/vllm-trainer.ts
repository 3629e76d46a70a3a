/**
 * The logic of vLLM's own Python trainer client, from vLLM 0.32.0: NCCLTrainerWeightTransferEngine (vllm/distributed/weight_transfer/nccl_engine.py: trainer_init,
 * send_weights) over HTTPVLLMWeightSyncClient (clients.py), inside the order of examples/rl/rlhf_http_nccl.py: trainer_init, pause, send_weights, resume.
 * Nothing is retried, and nothing stands in a finally.
 *
 * Its HTTP client knows one server. For a fleet its four calls go to every server at once and wait for all, with ranks of their own, which is what
 * RayVLLMWeightSyncClient (clients.py) does with several handles; `vllmTrainerPerServer` runs the script once for each server instead.
 */
import { send } from './http.js';
import { type PeerEngine, type PeerLogic, type PeerPush, untilKilled } from './peer.js';
import { type HeldWeights, holdWeights, Rank0, seatsOf } from './rank0.js';

/** Seconds: of the example's own calls, and of HTTPVLLMWeightSyncClient. */
const EXAMPLE_TIMEOUT = 60;
const WORLD_SIZE_TIMEOUT = 10;
const CLIENT_TIMEOUT = 300;
/** Default of torch's store. */
const STORE_TIMEOUT = 300;

/** One script, one group over all servers. */
export const vllmTrainer: PeerLogic = async (push) => {
  const weights = await holdWeights(push.checkpoint, push.packedBufferBytes);
  await runScript(push, weights);
};

/** One script for each server, side by side; it fails when one of them does, after all of them have ended. */
export const vllmTrainerPerServer: PeerLogic = async (push) => {
  const weights = await holdWeights(push.checkpoint, push.packedBufferBytes);
  const scripts = push.engines.map((engine) => runScript({ ...push, engines: [engine] }, weights));
  const failed = (await Promise.allSettled(scripts)).flatMap((script) =>
    script.status === 'rejected' ? [script.reason as unknown] : [],
  );
  if (failed.length === 1) throw failed[0];
  if (failed.length > 1) throw new AggregateError(failed, failed.map(String).join('; '));
};

async function runScript(push: PeerPush, weights: HeldWeights): Promise<void> {
  await onAll(push, ({ url }) =>
    send(url, { method: 'GET', path: '/get_world_size', ...both(push, WORLD_SIZE_TIMEOUT) }),
  );
  const rank0 = await Rank0.open(push.engines, push.clock.timeout(STORE_TIMEOUT));
  /** The call that runs on a thread: the interpreter joins it when the script ends, however it ends. */
  const thread: { call: Promise<void> } = { call: Promise.resolve() };
  try {
    await untilKilled(push.signal, script(push, rank0, weights, thread));
  } finally {
    await thread.call.catch(() => undefined);
    await rank0.die();
  }
}

async function script(
  push: PeerPush,
  rank0: Rank0,
  weights: HeldWeights,
  thread: { call: Promise<void> },
): Promise<void> {
  await trainerInit(push, rank0, thread);
  // Mode abort and a cleared cache are the route's defaults.
  await onAll(push, ({ url }) => send(url, { path: '/pause', ...both(push, EXAMPLE_TIMEOUT) }));
  await sendWeights(push, rank0, weights, thread);
  await onAll(push, ({ url }) => send(url, { path: '/resume', ...both(push, EXAMPLE_TIMEOUT) }));
}

/** The workers join while rank 0 does; what the request said is looked at afterwards, so a refusal shows as the store's timeout. */
async function trainerInit(push: PeerPush, rank0: Rank0, thread: { call: Promise<void> }): Promise<void> {
  const packing = { packed: true, packed_buffer_size_bytes: push.packedBufferBytes, packed_num_buffers: 2 };
  const seats = seatsOf(push.engines);
  thread.call = onAll(push, ({ url }, index) => {
    const body = { init_info: { ...rank0.address, ...seats[index], ...packing } };
    return send(url, { path: '/init_weight_transfer_engine', body, ...both(push, CLIENT_TIMEOUT) });
  });
  thread.call.catch(() => undefined);
  await rank0.join();
  await thread.call;
}

/** start → update beside the broadcast → finish. An update that failed is noticed when the broadcast is over, not while it goes on. */
async function sendWeights(
  push: PeerPush,
  rank0: Rank0,
  weights: HeldWeights,
  thread: { call: Promise<void> },
): Promise<void> {
  const timeouts = both(push, CLIENT_TIMEOUT);
  await onAll(push, ({ url }) => send(url, { path: '/start_weight_update', ...timeouts }));
  const body = { update_info: weights.info };
  thread.call = onAll(push, ({ url }) => send(url, { path: '/update_weights', body, ...timeouts }));
  thread.call.catch(() => undefined);
  await rank0.broadcast(weights);
  await thread.call;
  await onAll(push, ({ url }) => send(url, { path: '/finish_weight_update', ...timeouts }));
}

/** Goes to every server at once; the first failure is raised when all of them have answered, in favour of the peer. */
async function onAll(
  push: PeerPush,
  run: (engine: PeerEngine, index: number) => Promise<unknown>,
): Promise<void> {
  const answers = await Promise.allSettled(push.engines.map(run));
  for (const answer of answers) if (answer.status === 'rejected') throw answer.reason;
}

/** requests' `timeout=`: to connect, and between bytes. */
function both({ clock, signal }: PeerPush, seconds: number) {
  return { connectMs: clock.timeout(seconds), readMs: clock.timeout(seconds), signal };
}
