/**
 * The RL handlers of a Python worker, over the engine of a reference vLLM. What they answer was recorded on Dynamo 1.6.1 (test/vectors/dynamo); the
 * order of their checks and the lock are those of dynamo/vllm/handlers.py (contracts/dynamo.md 1.4).
 */
import type { Core } from '../server/core.js';
import { type PauseMode, Serial } from '../server/scheduler.js';
import type { JsonObject } from '../server/validation.js';
import { Loras } from './loras.js';
import { asEngineError, collectiveRpc, EngineError, type WorkerExtension } from './rpc.js';

export interface RlWorkerOptions {
  /** DYN_RL_INIT_WEIGHTS_TIMEOUT_S, in milliseconds. */
  readonly initTimeoutMs: number;
  /** DYN_LORA_ENABLED. */
  readonly lora: boolean;
  /** DYN_LORA_HOTSWAP_ENABLED. */
  readonly loraHotSwap: boolean;
  readonly workerExtension?: WorkerExtension | undefined;
}

/** What a handler answers; with 200, also when it refuses. */
export type HandlerAnswer = Readonly<Record<string, unknown>>;
export type RouteHandler = (body: JsonObject) => HandlerAnswer | Promise<HandlerAnswer>;

const ok = (fields: HandlerAnswer = {}): HandlerAnswer => ({ status: 'ok', ...fields });
const refused = (message: string): HandlerAnswer => ({ status: 'error', message });

const NOT_PAUSED =
  'Worker must be paused via pause_generation() before updating weights. Call pause_generation() first, then update, then resume_generation().';
const RESERVED = ['allow_unpaused', 'engine_rpc', 'reset_prefix_cache', 'weight_version'];
const MODES: readonly unknown[] = ['keep', 'wait', 'abort'];

export class RlWorker {
  readonly #core: Core;
  readonly #options: RlWorkerOptions;
  readonly #loras: Loras;
  readonly #exit: () => void;
  /** Pause, resume, flush and every update take their turns; the version, liveness and discovery do not wait. */
  readonly #lock = new Serial();
  /** Adapters with running requests, by their number. */
  readonly #busyAdapters = new Map<string, number>();
  #paused = false;
  /** undefined: nobody declared one. */
  #version: unknown;
  /** null: awake. */
  #sleepLevel: number | null = null;

  /** @param exit ends the process at once, as os._exit does */
  constructor(core: Core, options: RlWorkerOptions, exit: () => void) {
    this.#core = core;
    this.#options = options;
    this.#loras = new Loras(core, options.loraHotSwap);
    this.#exit = exit;
  }

  get paused(): boolean {
    return this.#paused;
  }

  get asleep(): boolean {
    return this.#sleepLevel !== null;
  }

  get sleepLevel(): number | null {
    return this.#sleepLevel;
  }

  get version(): unknown {
    return this.#version ?? null;
  }

  get loras(): Loras {
    return this.#loras;
  }

  reset(): void {
    this.#paused = false;
    this.#sleepLevel = null;
    this.#version = undefined;
  }

  /** Runs a generation of this model; adapters that are busy forbid a pause by keep. */
  async whileBusy<T>(model: string, run: () => Promise<T>): Promise<T> {
    const count = (by: number) => this.#busyAdapters.set(model, (this.#busyAdapters.get(model) ?? 0) + by);
    if (!this.#core.loras.has(model)) return run();
    count(1);
    try {
      return await run();
    } finally {
      count(-1);
    }
  }

  /** By the route as discovery lists it. */
  handlers(): ReadonlyMap<string, RouteHandler> {
    const rl: [string, RouteHandler][] = [
      ['liveness_probe', () => ok({ alive: true })],
      ['get_weight_version', () => this.#described(this.#version)],
      ['set_weight_version', (body) => this.#setVersion(body)],
      ['pause_generation', (body) => this.#pause(body)],
      ['resume_generation', () => this.#locked(() => this.#resume())],
      ['flush_cache', () => this.#locked(() => this.#flush())],
      ['abort_request', (body) => abortRequest(body)],
      ['update_weights_from_disk', (body) => this.#locked(() => this.#fromDisk(body))],
      ['update_weights_from_distributed', (body) => this.#fromDistributed(body)],
      ['update_weights_from_tensor', () => refused('update_weights_from_tensor is not implemented')],
      ['init_weights_update_group', (body) => this.#locked(() => this.#initGroup(body))],
      ['destroy_weights_update_group', (body) => this.#locked(() => this.#destroyGroup(body))],
    ];
    const lora: [string, RouteHandler][] = [
      ['load_lora', (body) => this.#loras.load(body)],
      ['unload_lora', (body) => this.#loras.unload(body)],
    ];
    return new Map(this.#options.lora ? [...rl, ...lora] : rl);
  }

  /** Not among the routes that discovery lists. */
  controls(): ReadonlyMap<string, RouteHandler> {
    return new Map<string, RouteHandler>([
      ['control/sleep', ({ level = 1 }) => this.#sleep(level)],
      ['control/wake_up', () => this.#wakeUp()],
    ]);
  }

  /** One at a time; what the engine raises becomes the refusal. */
  #locked(task: () => Promise<HandlerAnswer>): Promise<HandlerAnswer> {
    return this.#lock.run(async () => {
      try {
        return await task();
      } catch (raised) {
        const error = asEngineError(raised);
        if (this.#core.dead) this.#exit();
        if (error instanceof EngineError) return refused(error.message);
        throw error;
      }
    });
  }

  #rpc(method: unknown, kwargs: JsonObject): Promise<void> {
    return collectiveRpc(this.#core, String(method), kwargs, this.#options.workerExtension);
  }

  #described(version: unknown): HandlerAnswer {
    return ok({ version: version ?? null, version_declared: version !== undefined });
  }

  #setVersion(body: JsonObject): HandlerAnswer {
    if (!Object.hasOwn(body, 'weight_version')) return refused("Missing 'weight_version' in body");
    this.#version = body.weight_version;
    return ok({ version: body.weight_version });
  }

  #pause({ mode = 'keep', clear_cache: clear = false }: JsonObject): HandlerAnswer | Promise<HandlerAnswer> {
    if (!MODES.includes(mode)) return refused(`Invalid mode '${String(mode)}'; expected keep|wait|abort`);
    return this.#locked(async () => {
      const busy = [...this.#busyAdapters].filter(([, count]) => count > 0).map(([name]) => name);
      if (mode === 'keep' && busy.length > 0) {
        return refused(`Cannot pause generation in keep mode with active LoRA requests: ${busy.join(', ')}`);
      }
      this.#core.requireAlive();
      await this.#core.scheduler.pause(mode as PauseMode);
      if (clear === true) await this.#core.utility(() => this.#core.resetPrefixCache(true));
      this.#paused = true;
      return ok({ message: 'Engine paused', mode, clear_cache: clear === true });
    });
  }

  async #resume(): Promise<HandlerAnswer> {
    this.#core.requireAlive();
    await this.#core.scheduler.resume();
    this.#paused = false;
    return ok({ message: 'Engine resumed' });
  }

  /** Says so also when running requests keep their blocks. */
  async #flush(): Promise<HandlerAnswer> {
    await this.#core.utility(() => this.#core.resetPrefixCache(false));
    return ok({ message: 'Cache flushed' });
  }

  async #fromDisk(body: JsonObject): Promise<HandlerAnswer> {
    if (!this.#paused) return refused(NOT_PAUSED);
    const { model_path: path, engine_rpc: rpc = 'reload_weights' } = body;
    if (typeof path !== 'string' || path === '') return refused("Missing 'model_path' in body");
    await this.#rpc(rpc, rpc === 'reload_weights' ? { weights_path: path } : { weight_path: path });
    await this.#core.utility(() => this.#core.resetPrefixCache(false));
    return this.#updated(body);
  }

  #fromDistributed(body: JsonObject): HandlerAnswer | Promise<HandlerAnswer> {
    const { allow_unpaused: unpaused = false, reset_prefix_cache: reset = true } = body;
    if (typeof unpaused !== 'boolean') return refused("'allow_unpaused' must be a boolean");
    if (typeof reset !== 'boolean') return refused("'reset_prefix_cache' must be a boolean");
    if (unpaused && reset) {
      return refused(
        "Unpaused weight updates cannot reset the prefix cache. Set 'reset_prefix_cache' to false or pause generation first.",
      );
    }
    return this.#locked(async () => {
      if (!this.#paused && !unpaused) return refused(NOT_PAUSED);
      const kwargs = Object.fromEntries(Object.entries(body).filter(([key]) => !RESERVED.includes(key)));
      await this.#rpc(body.engine_rpc ?? 'update_weights_from_path', kwargs);
      if (reset) await this.#core.utility(() => this.#core.resetPrefixCache(false));
      return this.#updated(body);
    });
  }

  /** Without a tag the answer says 'unknown', and the old one stays stored. */
  #updated(body: JsonObject): HandlerAnswer {
    if (!Object.hasOwn(body, 'weight_version')) return ok({ version: 'unknown', version_declared: false });
    this.#version = body.weight_version;
    return this.#described(this.#version);
  }

  async #initGroup(body: JsonObject): Promise<HandlerAnswer> {
    const { engine_rpc: rpc = 'init_broadcaster', ...kwargs } = body;
    // The engine may be blocked in NCCL for ever, so the watchdog ends all of it.
    const watchdog = setTimeout(this.#exit, this.#options.initTimeoutMs);
    try {
      await this.#rpc(rpc, kwargs);
    } finally {
      clearTimeout(watchdog);
    }
    return ok({ message: 'Weight update group initialized' });
  }

  async #destroyGroup(body: JsonObject): Promise<HandlerAnswer> {
    const { engine_rpc: rpc = 'destroy_broadcaster', ...kwargs } = body;
    await this.#rpc(rpc, kwargs);
    return ok({ message: 'Weight update group destroyed' });
  }

  async #sleep(level: unknown): Promise<HandlerAnswer> {
    if (this.asleep) return ok({ message: 'Engine already sleeping' });
    await this.#core.scheduler.pause('abort');
    this.#sleepLevel = Number(level);
    return ok({ message: `Engine slept (level=${String(level)})` });
  }

  /** Generation runs again; the RL flag stays as it was. */
  async #wakeUp(): Promise<HandlerAnswer> {
    if (!this.asleep) return ok({ message: 'Engine already awake' });
    await this.#core.scheduler.resume();
    this.#sleepLevel = null;
    return ok({ message: 'Engine woke' });
  }
}

function abortRequest({ request_id: id }: JsonObject): HandlerAnswer {
  return typeof id === 'string' && id !== ''
    ? ok({ request_id: id })
    : refused("Missing 'request_id' in body");
}
