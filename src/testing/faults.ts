/** What can be made to go wrong in a reference engine. */
import { setTimeout as sleep } from 'node:timers/promises';
import { WorkerError } from './server/transfer-info.js';

export interface ReferenceFaults {
  /** Strikes in every init, before the worker joins the group. */
  readonly join?: {
    /** raise: the init fails; exit: the worker dies, and the engine with it; stall: it never joins; delay: it joins later. */
    readonly action: 'raise' | 'exit' | 'stall' | 'delay';
    /** For 'delay'. */
    readonly delayMs?: number;
    /** Tensor-parallel rank; all workers when absent. */
    readonly worker?: number;
  };
  /** Strikes in every receive until it is taken back. */
  readonly receive?: {
    /** Broadcasts that still arrive; it strikes after the last one where there are no more. */
    readonly afterBroadcasts: number;
    /** raise: the update fails; exit: the worker dies, and the engine with it; stall: it waits until the engine ends. */
    readonly action: 'raise' | 'exit' | 'stall';
    /** Tensor-parallel rank; all workers when absent. */
    readonly worker?: number;
  };
  /** Strikes while a delta is applied, once so many tensors of it are patched: what was patched stays so, as in vLLM. */
  readonly patch?: {
    readonly afterTensors: number;
    /** raise: the update fails; exit: the worker dies, and the engine with it. */
    readonly action: 'raise' | 'exit';
    /** Tensor-parallel rank; all workers when absent. */
    readonly worker?: number;
  };
  /** Milliseconds that each worker lets pass before each broadcast. */
  readonly broadcastDelayMs?: number;
  /** One bit of this parameter (the engine's name) flips on worker 0 after every update and load. */
  readonly corruptParameter?: string;
}

/** The fault of one worker's init. */
export async function strikeJoin(
  { join }: ReferenceFaults,
  { rank, signal }: { readonly rank: number; readonly signal: AbortSignal },
): Promise<void> {
  if (join === undefined || (join.worker !== undefined && join.worker !== rank)) return;
  switch (join.action) {
    case 'raise':
      throw new WorkerError('injected fault in init');
    case 'exit':
      process.exit(70);
      break;
    case 'stall':
      return untilAborted(signal);
    case 'delay':
      await sleep(join.delayMs ?? 0, undefined, { signal }).catch(() => undefined);
  }
}

/** @throws WorkerError when the signal says so, and not before */
async function untilAborted(signal: AbortSignal): Promise<never> {
  if (!signal.aborted) {
    await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
  }
  throw new WorkerError('aborted');
}

/** The faults of one worker's receive. */
export class ReceiveFault {
  readonly #faults: ReferenceFaults;
  readonly #rank: number;
  readonly #signal: AbortSignal;

  constructor(faults: ReferenceFaults, rank: number, signal: AbortSignal) {
    this.#faults = faults;
    this.#rank = rank;
    this.#signal = signal;
  }

  async before(received: number): Promise<void> {
    const { broadcastDelayMs = 0 } = this.#faults;
    if (broadcastDelayMs > 0) {
      await new Promise((resolve) => setTimeout(resolve, broadcastDelayMs));
    }
    if (received >= (this.#faults.receive?.afterBroadcasts ?? Number.POSITIVE_INFINITY)) {
      await this.#strike(received);
    }
  }

  /** All have arrived. */
  async after(received: number): Promise<void> {
    if (received <= (this.#faults.receive?.afterBroadcasts ?? -1)) await this.#strike(received);
  }

  /** Before the next tensor of a delta is patched. */
  beforePatch(patched: number): void {
    const { patch } = this.#faults;
    if (patch === undefined || patched < patch.afterTensors) return;
    if (patch.worker !== undefined && patch.worker !== this.#rank) return;
    if (patch.action === 'exit') process.exit(70);
    throw new WorkerError(`injected fault after ${patched} patched tensors`);
  }

  async #strike(received: number): Promise<void> {
    const { receive } = this.#faults;
    if (receive === undefined || (receive.worker !== undefined && receive.worker !== this.#rank)) return;
    switch (receive.action) {
      case 'raise':
        throw new WorkerError(`injected fault after ${received} broadcasts`);
      case 'exit':
        process.exit(70);
        break;
      case 'stall':
        await untilAborted(this.#signal);
    }
  }
}
