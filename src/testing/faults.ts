/** What can be made to go wrong in a reference engine. */
import { WorkerError } from './server/transfer-info.js';

export interface ReferenceFaults {
  /** Strikes in every receive until it is taken back. */
  readonly receive?: {
    /** Broadcasts that still arrive. */
    readonly afterBroadcasts: number;
    /** raise: the update fails; exit: the worker dies, and the engine with it; stall: it waits until the engine ends. */
    readonly action: 'raise' | 'exit' | 'stall';
    /** Tensor-parallel rank; all workers when absent. */
    readonly worker?: number;
  };
  /** Milliseconds that each worker lets pass before each broadcast. */
  readonly broadcastDelayMs?: number;
  /** One bit of this parameter (the engine's name) flips on worker 0 after every update and load. */
  readonly corruptParameter?: string;
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
    const { receive, broadcastDelayMs = 0 } = this.#faults;
    if (broadcastDelayMs > 0) {
      await new Promise((resolve) => setTimeout(resolve, broadcastDelayMs));
    }
    if (
      receive === undefined ||
      received < receive.afterBroadcasts ||
      (receive.worker !== undefined && receive.worker !== this.#rank)
    ) {
      return;
    }
    switch (receive.action) {
      case 'raise':
        throw new WorkerError(`injected fault after ${received} broadcasts`);
      case 'exit':
        process.exit(70);
        break;
      case 'stall':
        await new Promise((resolve) => this.#signal.addEventListener('abort', resolve, { once: true }));
        throw new WorkerError('aborted');
    }
  }
}
