/** A communicator with workers that somebody else tells to join: rank 0 listens at a place that was agreed on, and asks nobody. */
import { WeightcastError } from '../../errors.js';
import type { NativeCommunicator, NativeRuntime } from '../../native.js';
import { orLeave } from '../../waits.js';
import { openRendezvous } from './rendezvous/index.js';

export interface AwaitedGroupOptions {
  readonly runtime: NativeRuntime;
  readonly device: number;
  /** Address that is bound. */
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** Ranks 1 to this. */
  readonly workers: number;
  /** Milliseconds until every worker has joined and the communicator is ready. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Who is waited for, in words. */
  readonly who: string;
  /** Told the port once workers may come. */
  readonly onListening?: ((port: number) => void) | undefined;
}

/**
 * Waits for all workers, then enters the group with them and makes the all-reduce of vLLM's communicator.
 *
 * @throws WeightcastError WC_RENDEZVOUS_TIMEOUT, WC_RENDEZVOUS_ADDRESS, WC_RENDEZVOUS_ABORTED, WC_UPDATE_ABORTED, WC_NCCL_TIMEOUT, WC_NCCL_FAILED
 */
export async function awaitGroup(options: AwaitedGroupOptions): Promise<NativeCommunicator> {
  const { runtime, workers, signal, who } = options;
  const deadline = performance.now() + options.timeoutMs;
  const left = () => Math.max(1, deadline - performance.now());
  signal?.throwIfAborted();
  const communicator = await orLeave(runtime.communicator(options.device, left()), signal, (late) =>
    late.abort(),
  );
  const stop = () => void communicator.abort().catch(() => undefined);
  signal?.addEventListener('abort', stop, { once: true });
  try {
    let made: Promise<Uint8Array> | null = null;
    const uniqueId = (): Promise<Uint8Array> => {
      made ??= runtime.uniqueId(left());
      return made;
    };
    await using store = await openRendezvous({
      host: options.host,
      port: options.port,
      uniqueId,
      expected: Array.from({ length: workers }, (_, index) => ({ rank: index + 1, engine: who })),
      timeoutMs: left(),
      signal,
    });
    options.onListening?.(store.port);
    // Nobody enters ncclCommInitRank, which never times out, before all are there.
    await store.complete();
    await communicator.init({
      uniqueId: await uniqueId(),
      worldSize: workers + 1,
      rank: 0,
      timeoutMs: left(),
    });
    await communicator.allReduce(new Float32Array([0]), left());
    signal?.throwIfAborted();
    return communicator;
  } catch (error) {
    await communicator.abort().catch(() => undefined);
    if (signal?.aborted !== true) throw error;
    throw new WeightcastError('WC_UPDATE_ABORTED', `interrupted while ${who} joined the group`, {
      phase: 'rendezvous',
      cause: error,
    });
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}
