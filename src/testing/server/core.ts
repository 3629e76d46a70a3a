/** One reference engine: its state, and the workers behind it. */
import type { Profile } from './profile.js';
import { type Answer, engineDead, workerFailure } from './replies.js';
import { type PauseMode, Scheduler } from './scheduler.js';
import { INTACT, type Session } from './session.js';
import {
  type JoinOrder,
  type Packed,
  type ReceiveOrder,
  type TransferBackend,
  WorkerError,
} from './transfer-info.js';
import { Refusal } from './validation.js';

/** The worker processes, all together. Everything rejects with a WorkerError that has vLLM's words. */
export interface WorkerGroup {
  readonly size: number;
  /** Token ids that the model knows. */
  readonly vocabulary: number;
  /** Loads a checkpoint directory over the current parameters. */
  load(directory: string): Promise<void>;
  join(order: JoinOrder): Promise<void>;
  /** One order a worker. */
  receive(orders: readonly ReceiveOrder[]): Promise<void>;
  /** prime-rl's stream, which says itself what comes. */
  receiveStream(): Promise<void>;
  leave(): Promise<void>;
  /** SHA-256 of each parameter, a map a worker. */
  checksums(): Promise<readonly ReadonlyMap<string, string>[]>;
  /** Depends on every byte of the weights, not on how they are sliced. */
  fingerprint(): Promise<string>;
}

export interface CoreOptions {
  readonly profile: Profile;
  readonly servedModelName: string;
  readonly model: string;
  /** `--weight-transfer-config`; true is the backend 'nccl'. */
  readonly weightTransfer: boolean | 'sparse_nccl';
  /** Milliseconds that a generated token takes. */
  readonly tokenMs: number;
  readonly maxModelLen: number;
}

/** What an engine does at this moment, whether or not its core answers. */
export interface EngineState {
  /** null when it is not paused. */
  readonly paused: PauseMode | null;
  /** An update session is open. */
  readonly updating: boolean;
  /** Its next request would kill it: an update was opened and not finished, or failed. */
  readonly broken: boolean;
  /** Its workers are in a group. */
  readonly joined: boolean;
  readonly dead: boolean;
  /** Calls that its core has not answered: one that stays is stuck. */
  readonly pending: number;
  readonly weightVersion: string;
}

/** Unix seconds, as metrics have them. */
const processStart = Math.round((Date.now() - process.uptime() * 1000) / 10) / 100;

export class Core {
  readonly options: CoreOptions;
  readonly profile: Profile;
  readonly workers: WorkerGroup;
  readonly scheduler: Scheduler;
  readonly startedAt = processStart;
  /** Adapters by name. */
  readonly loras = new Map<string, string>();
  session: Session = INTACT;
  joined = false;
  packedAtInit: Packed | null = null;
  previousOrder: ReceiveOrder | null = null;
  /** What a reload without a path loads. */
  path: string;
  weightVersion = 'default';
  dead = false;
  /** Prompts with a key-value cache → fingerprint of the weights that computed it. */
  readonly #cache = new Map<string, string>();
  readonly #onDeath: () => void;

  constructor(options: CoreOptions, workers: WorkerGroup, onDeath: () => void) {
    this.options = options;
    this.profile = options.profile;
    this.workers = workers;
    this.scheduler = new Scheduler(options.tokenMs);
    this.path = options.model;
    this.#onDeath = onDeath;
  }

  /** Runs a utility call on the core, after whatever it is doing; a failure in a worker becomes its 500. */
  async utility<T>(task: () => T | Promise<T>): Promise<T> {
    this.requireAlive();
    try {
      return await this.scheduler.core.run(() => {
        this.requireAlive();
        return task();
      });
    } catch (error) {
      throw error instanceof WorkerError ? new Refusal(workerFailure(this.profile, error.message)) : error;
    }
  }

  get backend(): TransferBackend {
    return this.options.weightTransfer === 'sparse_nccl' ? 'sparse_nccl' : 'nccl';
  }

  state(): EngineState {
    return {
      paused: this.scheduler.mode,
      updating: this.session.active,
      broken: this.session.stripped,
      joined: this.joined,
      dead: this.dead,
      pending: this.scheduler.core.pending,
      weightVersion: this.weightVersion,
    };
  }

  /** Forgets everything since the start, once the calls before it are answered; the workers are put back by their owner. */
  async reset(): Promise<void> {
    this.scheduler.abortAll();
    await this.scheduler.resume();
    await this.scheduler.core.run(() => {
      this.session = INTACT;
      this.joined = false;
      this.packedAtInit = null;
      this.previousOrder = null;
      this.path = this.options.model;
      this.weightVersion = 'default';
      this.loras.clear();
      this.#cache.clear();
    });
  }

  requireAlive(): void {
    if (this.dead) {
      throw new Refusal(this.deadAnswer());
    }
  }

  deadAnswer(): Answer {
    return engineDead(this.profile);
  }

  /** The engine core raises: every request fails and the process is about to exit. */
  die(): never {
    this.dead = true;
    this.scheduler.abortAll();
    this.#onDeath();
    throw new Refusal(this.deadAnswer());
  }

  /** Fingerprint whose cache serves this prompt; the prompt is cached from now on. */
  cachedWeights(key: string, current: string): string {
    const found = this.#cache.get(key);
    if (found !== undefined) {
      return found;
    }
    if (this.#cache.size >= 1000) {
      this.#cache.clear();
    }
    this.#cache.set(key, current);
    return current;
  }

  /** False, with nothing done, while requests hold blocks and may not be preempted. */
  resetPrefixCache(preemptRunning: boolean): boolean {
    if (this.scheduler.running > 0 && !preemptRunning) {
      return false;
    }
    this.#cache.clear();
    this.scheduler.preempt();
    return true;
  }
}
