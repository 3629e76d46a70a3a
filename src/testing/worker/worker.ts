/** One worker of a reference engine: a rank of the sender's group, with its parameters in device memory. */
import { type NativeRuntime, native } from '../../native.js';
import { ReceiveFault, type ReferenceFaults, strikeJoin } from '../faults.js';
import { Serial } from '../server/scheduler.js';
import { type JoinOrder, type ReceiveOrder, WorkerError } from '../server/transfer-info.js';
import { asWorkerError, Group, NO_TIMEOUT_MS } from './group.js';
import { layoutOf } from './layout.js';
import { loadModel, openModel, readConfig, tensorsOf } from './model.js';
import { Parameters } from './parameters.js';

export interface WorkerStart {
  readonly model: string;
  readonly rank: number;
  readonly size: number;
  readonly libraries: { readonly cuda: string | null; readonly nccl: string | null };
  /** null waits in NCCL for ever, as the real engine does. */
  readonly receiveTimeoutMs: number | null;
  readonly faults: ReferenceFaults;
}

export type WorkerCall =
  | { readonly kind: 'load'; readonly directory: string }
  | { readonly kind: 'join'; readonly order: JoinOrder }
  | { readonly kind: 'receive'; readonly order: ReceiveOrder }
  | { readonly kind: 'receive-stream' }
  | { readonly kind: 'leave' }
  /** Ends what the worker waits for, then puts it back to what it was at its start. */
  | { readonly kind: 'reset' }
  | { readonly kind: 'checksums' }
  | { readonly kind: 'fingerprint' }
  | { readonly kind: 'faults'; readonly faults: ReferenceFaults };

/** Does one thing at a time; a reset ends what it waits for. */
export class Worker {
  readonly #calls = new Serial();
  readonly #options: WorkerStart;
  readonly #runtime: NativeRuntime;
  readonly #device: number;
  readonly #parameters: Parameters;
  /** Ends what waits in this process; a new one after each reset. */
  #stop = new AbortController();
  #faults: ReferenceFaults;
  #group: Group | null = null;

  private constructor(options: WorkerStart, runtime: NativeRuntime, device: number, parameters: Parameters) {
    this.#options = options;
    this.#runtime = runtime;
    this.#device = device;
    this.#parameters = parameters;
    this.#faults = options.faults;
  }

  static async start(options: WorkerStart): Promise<Worker> {
    const { libraries, rank, size, model } = options;
    const runtime = await native().open(libraries.cuda, libraries.nccl);
    const device = rank % runtime.devices().length;
    // Never joins a group: it only owns the memory of the parameters, which outlives every group.
    const memory = await runtime.communicator(device);
    const checkpoint = await openModel(model);
    const config = await readConfig(model);
    const layout = layoutOf(tensorsOf(checkpoint), { rank, size, tiedEmbeddings: config.tiedEmbeddings });
    const parameters = await Parameters.allocate(memory, layout, config.architecture);
    await loadModel(checkpoint, parameters);
    return new Worker(options, runtime, device, parameters);
  }

  get vocabulary(): number {
    return this.#parameters.layout.tensors.get('model.embed_tokens.weight')?.shape[0] ?? 32_000;
  }

  call(call: WorkerCall): Promise<unknown> {
    if (call.kind === 'reset') this.interrupt();
    return this.#calls.run(() => this.#serve(call));
  }

  async #serve(call: WorkerCall): Promise<unknown> {
    switch (call.kind) {
      case 'load':
        await loadModel(await openModel(call.directory), this.#parameters);
        return this.#corrupt();
      case 'join':
        return this.#join(call.order);
      case 'receive':
        await this.#receive((group, fault) => group.receive(call.order, this.#parameters, fault));
        return this.#corrupt();
      case 'receive-stream':
        await this.#receive((group, fault) => group.receiveStream(this.#parameters, fault));
        return this.#corrupt();
      case 'leave':
        await this.#group?.leave();
        this.#group = null;
        return null;
      case 'checksums':
        return this.#parameters.digests();
      case 'fingerprint':
        return this.#parameters.fingerprint(this.#options.rank === 0);
      case 'reset':
        return this.#reset();
      case 'faults':
        this.#faults = call.faults;
        return null;
    }
  }

  /** Ends whatever waits: a receive, an init, a stall. */
  interrupt(): void {
    const stop = this.#stop;
    this.#stop = new AbortController();
    stop.abort();
  }

  async #reset(): Promise<null> {
    await this.#group?.leave();
    this.#group = null;
    this.#faults = {};
    await loadModel(await openModel(this.#options.model), this.#parameters);
    return null;
  }

  async #join(order: JoinOrder): Promise<void> {
    const { rank, receiveTimeoutMs } = this.#options;
    const timeoutMs = receiveTimeoutMs ?? NO_TIMEOUT_MS;
    const { signal } = this.#stop;
    await strikeJoin(this.#faults, { rank, signal });
    const seat = { rank, device: this.#device, timeoutMs, signal };
    const group = await Group.join(this.#runtime, order, seat).catch((error: unknown) => {
      throw asWorkerError(error);
    });
    const previous = this.#group;
    this.#group = group;
    await previous?.leave();
  }

  async #receive(run: (group: Group, fault: ReceiveFault) => Promise<void>): Promise<void> {
    if (this.#group === null) {
      throw new WorkerError('NCCL weight transfer not initialized. Call init_transfer_engine() first.');
    }
    const fault = new ReceiveFault(this.#faults, this.#options.rank, this.#stop.signal);
    await run(this.#group, fault).catch((error: unknown) => {
      throw asWorkerError(error);
    });
  }

  async #corrupt(): Promise<null> {
    if (this.#faults.corruptParameter !== undefined && this.#options.rank === 0) {
      await this.#parameters.corrupt(this.#faults.corruptParameter);
    }
    return null;
  }
}
