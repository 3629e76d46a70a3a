/**
 * prime-rl's logic, from PrimeIntellect-ai/prime-rl at 559b4477 (v0.8.1.dev67, 2026-08-21): the orchestrator's order of calls in
 * src/prime_rl/utils/client.py (check_health, init_nccl_broadcast, update_weights, _admin_post), the trainer's in
 * src/prime_rl/transports/weights/nccl.py, the end of both in src/prime_rl/entrypoints/rl.py. Later versions (AdminPlane, 2026-09) keep this order and
 * these retries for NCCL.
 *
 * Routes: /pause and /resume are the same; /init_broadcaster is /init_weight_transfer_engine here. prime-rl's /update_weights strips the layers, receives and
 * finalizes in one request, as vLLM's own does up to 0.20: so this logic drives engines of that dialect, one request for one request.
 */
import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { deferred } from '../../../src/testing/deferred.js';
import { send } from './http.js';
import {
  type PeerEngine,
  type PeerLogic,
  type PeerPush,
  StatusError,
  TransportError,
  untilKilled,
} from './peer.js';
import { type HeldWeights, holdWeights, Rank0, seatsOf } from './rank0.js';

/** Seconds. */
const ADMIN_TIMEOUT = 300;
const UPDATE_TIMEOUT = 720;
const CONNECT_TIMEOUT = 10;
/** weight_broadcast.timeout, the store's. */
const STORE_TIMEOUT = 1200;
const HEALTH_TIMEOUT = 1800;
const HEALTH_INTERVAL = 1;
const LONGEST_WAIT = 10;
const ATTEMPTS = 10;
/** The admin client's own timeout is None. */
const NO_TIMEOUT = { connectMs: null, readMs: null } as const;

/** A push by a trainer and an orchestrator that were started for it: the broadcast at the start is the same as every later one. */
export const primeRl: PeerLogic = async (push) => {
  const ending = new AbortController();
  const job = { ...push, signal: AbortSignal.any([push.signal, ending.signal]) };
  setMaxListeners(0, job.signal);
  let rank0: Rank0 | null = null;
  try {
    const weights = await holdWeights(push.checkpoint, push.packedBufferBytes);
    await untilKilled(push.signal, waitForReady(job));
    rank0 = await Rank0.open(push.engines, push.clock.timeout(STORE_TIMEOUT));
    await untilKilled(push.signal, bothProcesses(job, rank0, weights));
  } finally {
    // Whichever process fails, the launcher ends the other: the orchestrator's requests and the trainer's communicator go.
    ending.abort();
    await rank0?.die();
  }
};

async function bothProcesses(job: PeerPush, rank0: Rank0, weights: HeldWeights): Promise<void> {
  // The markers STABLE and NCCL_READY: the trainer has a version to send; the engines are paused and about to receive.
  const stable = deferred<void>();
  const ready = deferred<void>();
  const trainer = async (): Promise<void> => {
    await rank0.join();
    stable.resolve();
    await ready.promise;
    await rank0.broadcast(weights);
  };
  const orchestrator = async (): Promise<void> => {
    await initBroadcaster(job, rank0);
    await stable.promise;
    await updateWeights(job, weights, ready.resolve);
  };
  await Promise.all([trainer(), orchestrator()]);
}

/** asyncio.gather without return_exceptions is Promise.all: the first failure goes on at once, and the others run on. */
async function gather(
  job: PeerPush,
  run: (engine: PeerEngine, index: number) => Promise<void>,
): Promise<void> {
  await Promise.all(job.engines.map(run));
}

/** Every server must say within half an hour that it is healthy, where a 404 counts as healthy; then it must have a model. */
async function waitForReady(job: PeerPush): Promise<void> {
  const { clock, signal } = job;
  await gather(job, async ({ url }) => {
    const endsAt = performance.now() + clock.timeout(HEALTH_TIMEOUT);
    for (;;) {
      try {
        await send(url, { method: 'GET', path: '/health', ...NO_TIMEOUT, signal });
        return;
      } catch (error) {
        if (error instanceof StatusError && error.status === 404) return;
        if (signal.aborted || performance.now() > endsAt) throw error;
        await sleep(clock.wait(HEALTH_INTERVAL), undefined, { signal });
      }
    }
  });
  await gather(job, async ({ url }) => {
    const models = await send(url, { method: 'GET', path: '/v1/models', ...NO_TIMEOUT, signal });
    if ((JSON.parse(models) as { data: unknown[] }).data.length === 0) throw new Error(`no model on ${url}`);
  });
}

/** No timeout and no retry. Every error status is swallowed: a 404 with a warning, the others in silence. */
async function initBroadcaster(job: PeerPush, rank0: Rank0): Promise<void> {
  const seats = seatsOf(job.engines);
  await gather(job, async ({ url }, index) => {
    const body = { init_info: { ...rank0.address, ...seats[index] } };
    try {
      await send(url, { path: '/init_weight_transfer_engine', body, ...NO_TIMEOUT, signal: job.signal });
    } catch (error) {
      if (!(error instanceof StatusError)) throw error;
    }
  });
}

/** Pause all, update all, resume all. The pause stands outside the try: when one fails, nobody is resumed. */
async function updateWeights(job: PeerPush, weights: HeldWeights, ready: () => void): Promise<void> {
  // The cache is not cleared: prime-rl salts it with the version, so that no stale block is read.
  await gather(job, (engine) => adminPost(job, engine, '/pause?mode=keep&clear_cache=false', ADMIN_TIMEOUT));
  try {
    ready();
    const packing = { packed: true, packed_buffer_size_bytes: job.packedBufferBytes };
    const body = { update_info: { ...weights.info, ...packing } };
    await gather(job, (engine) => adminPost(job, engine, '/update_weights', UPDATE_TIMEOUT, body));
  } finally {
    await gather(job, (engine) => adminPost(job, engine, '/resume', ADMIN_TIMEOUT));
  }
}

/** Ten attempts within twice the timeout, 1, 2, 4, 8, 10, … seconds apart; again after a 5xx and after anything that is no whole answer. */
async function adminPost(
  { clock, signal }: PeerPush,
  { url }: PeerEngine,
  path: string,
  timeout: number,
  body?: unknown,
): Promise<void> {
  const began = performance.now();
  for (let attempt = 1; ; attempt += 1) {
    try {
      await send(url, {
        path,
        body,
        connectMs: clock.timeout(CONNECT_TIMEOUT),
        readMs: clock.timeout(timeout),
        signal,
      });
      return;
    } catch (error) {
      const again = error instanceof TransportError || (error instanceof StatusError && error.status >= 500);
      const over = attempt >= ATTEMPTS || performance.now() - began >= 2 * clock.timeout(timeout);
      if (!again || over || signal.aborted) throw error;
      await sleep(clock.wait(Math.min(LONGEST_WAIT, 2 ** (attempt - 1))), undefined, { signal });
    }
  }
}
