/** A fleet that a trainer pushes to again and again: the communicator, the connections and the staging outlive an update. */
import { setMaxListeners } from 'node:events';
import { resolve } from 'node:path';
import { createHttpClient, type EngineTarget, type HttpClient } from '../engines/http.js';
import { connectEngine, parseEngine } from '../engines/registry.js';
import { asWeightcastError, WeightcastError } from '../errors.js';
import { type CallOptions, type EngineFacts, type EngineLink, onAll, probeEngine } from '../fleet/engine.js';
import { type Checkpoint, openCheckpoint } from '../weights/checkpoint.js';
import type { ProofVerdict } from '../weights/proof.js';
import type { Attempt, Carrier } from './attempt.js';
import { carryOut, conclude, describeWeights } from './coordinator.js';
import { DigestBook } from './digests.js';
import { Ledger } from './ledger.js';
import { NcclSender } from './nccl-sender.js';
import { resolveSettings, type Settings } from './settings.js';
import { filesystemCarrier } from './transfer-files.js';
import type { EngineSpec, FleetOptions, TransferReport, UpdateOptions, UpdateReport } from './types.js';

/** Engines of a fleet, connected. Made by {@link connectFleet}. */
export class FleetSession {
  readonly #settings: Settings;
  readonly #http: HttpClient;
  readonly #engines: readonly EngineLink[];
  readonly #sender: NcclSender;
  /** Weight version that each engine had after our last update: another value means that it was restarted or changed by others. */
  readonly #weightVersions = new Map<string, string>();
  readonly #learned = new Map<number, ProofVerdict>();
  #updates = 0;
  #busy = false;
  #closed = false;

  constructor(settings: Settings, http: HttpClient, engines: readonly EngineLink[]) {
    this.#settings = settings;
    this.#http = http;
    this.#engines = engines;
    this.#sender = new NcclSender();
  }

  get engines(): readonly EngineLink[] {
    return this.#engines;
  }

  /**
   * Moves every engine to the weights at `weights` (a checkpoint directory or a .safetensors file).
   *
   * @returns the report, when every engine serves the new version
   * @throws UpdateError with `.report` when not; WeightcastError WC_UPDATE_BUSY, WC_NATIVE_CLOSED
   */
  async update(weights: string, options: UpdateOptions = {}): Promise<UpdateReport> {
    if (this.#closed) throw new WeightcastError('WC_NATIVE_CLOSED', 'the session is closed');
    if (this.#busy)
      throw new WeightcastError('WC_UPDATE_BUSY', 'an update is already running in this session');
    this.#busy = true;
    try {
      return await this.#run(resolve(weights), options);
    } finally {
      this.#busy = false;
    }
  }

  async #run(path: string, options: UpdateOptions): Promise<UpdateReport> {
    const settings = this.#settings;
    const ledger = new Ledger(this.#engines, settings.onEvent);
    const signal = AbortSignal.any(options.signal === undefined ? [] : [options.signal]);
    // One listener for each request in flight, which is no leak however large the fleet.
    setMaxListeners(0, signal);
    const methods = this.#methods(options);
    let checkpoint: Checkpoint | null = null;
    let carrier: Carrier | null = null;
    let transfer: TransferReport | null = null;
    let book: DigestBook | null = null;
    let failure: unknown = null;
    try {
      ledger.enter('preflight');
      signal.throwIfAborted();
      const facts = await this.#preflight(ledger, signal);
      checkpoint = await openCheckpoint(path, { signal });
      const attempt: Attempt = {
        settings,
        engines: this.#engines,
        ledger,
        checkpoint,
        version: options.version ?? null,
        facts,
        signal,
      };
      // Hashing reads every byte, so that the transfer finds them in the page cache.
      book = methods.digest ? await this.#digest(attempt) : null;
      carrier =
        settings.transport === 'filesystem'
          ? filesystemCarrier(directoryOf(checkpoint, path))
          : await this.#sender.prepare(attempt);
      transfer = await carryOut({ attempt, carrier, book, fingerprint: methods.fingerprint });
      await this.#readBack(attempt);
      this.#updates += 1;
    } catch (error) {
      failure = signal.aborted
        ? new WeightcastError('WC_UPDATE_ABORTED', 'interrupted', {
            phase: ledger.phase ?? undefined,
            cause: error,
          })
        : asWeightcastError(error, 'WC_UPDATE_FAILED', { phase: ledger.phase ?? undefined });
    } finally {
      await carrier?.close().catch(() => undefined);
    }
    return conclude({
      ledger,
      error: failure,
      head: {
        version: options.version ?? null,
        transport: carrier?.name ?? settings.transport,
        emulated: this.#sender.emulated,
        weights: { ...describeWeights(path, checkpoint), digest: book?.checkpointDigest ?? null },
        transfer,
        memory: this.#sender.memory,
        nccl: carrier?.name === 'nccl' ? this.#sender.describe() : null,
      },
    });
  }

  /** By default the first update is proved by digest where engines can, and by fingerprint where they can't; later ones by fingerprint. */
  #methods({ verify = this.#settings.verify }: UpdateOptions): {
    readonly digest: boolean;
    readonly fingerprint: boolean;
  } {
    if (verify !== 'auto') return { digest: verify === 'digest', fingerprint: verify === 'fingerprint' };
    const checkers = this.#engines.filter((engine) => engine.admin.capabilities.weightChecker).length;
    const digest = this.#updates === 0 && checkers > 0;
    return { digest, fingerprint: !digest || checkers < this.#engines.length };
  }

  /** Asks every engine for its facts; one that is found paused is suspect and never resumed as it is. */
  async #preflight(ledger: Ledger, signal: AbortSignal): Promise<Map<string, EngineFacts>> {
    const options: CallOptions = { signal, timeoutMs: this.#settings.timeouts.probe };
    const { done, failed } = await onAll(this.#engines, (engine) => probeEngine(engine, options));
    for (const engine of this.#engines) {
      const facts = done.get(engine.id);
      if (facts === undefined) continue;
      ledger.identify(engine.id, { engineVersion: engine.admin.version, workers: facts.workers });
      for (const note of engine.admin.notes) ledger.note(`${engine.id}: ${note}`);
      if (facts.paused)
        ledger.set(engine.id, 'quarantined', 'found paused: an earlier push may have died in it');
      else ledger.set(engine.id, 'serving-old');
      const remembered = this.#weightVersions.get(engine.id);
      if (remembered !== undefined && facts.weightVersion !== null && remembered !== facts.weightVersion) {
        ledger.note(
          `${engine.id}: has weight version ${facts.weightVersion}, not ${remembered}: it was restarted or changed by others`,
        );
        this.#sender.distrust();
      }
    }
    for (const [id, error] of failed) ledger.fail(id, error);
    const [first] = failed;
    if (first !== undefined) throw first[1];
    return new Map(done);
  }

  async #digest(attempt: Attempt): Promise<DigestBook> {
    const book = new DigestBook(attempt.checkpoint, {
      signal: attempt.signal,
      learned: this.#learned,
      onProgress: (bytes, totalBytes) =>
        this.#settings.onEvent({ kind: 'progress', phase: 'preflight', bytes, totalBytes }),
    });
    for (const engine of this.#engines) {
      const workers = attempt.facts.get(engine.id)?.workers;
      if (engine.admin.capabilities.weightChecker && workers !== undefined) await book.prepare(workers);
    }
    return book;
  }

  /** Reads the weight version back where engines have one, outside the pause. */
  async #readBack(attempt: Attempt): Promise<void> {
    const { ledger, version } = attempt;
    await onAll(this.#engines, async (engine) => {
      const exchange = engine.admin.weightVersion();
      if (exchange === null || !ledger.is(engine.id, 'serving-new')) return;
      const read = await engine.call(exchange, { timeoutMs: this.#settings.timeouts.probe });
      ledger.weightVersion(engine.id, read);
      this.#weightVersions.set(engine.id, read);
      if (version !== null && read !== version)
        ledger.note(`${engine.id}: says weight version ${read} after an update to ${version}`);
    });
  }

  /** Ends the communicator and the connections. Engines keep serving. Safe to call twice. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#sender.close();
    await this.#http.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function directoryOf(checkpoint: Checkpoint, path: string): string {
  if (checkpoint.path !== null) return checkpoint.path;
  throw new WeightcastError('WC_CONFIG_INVALID', `${path} is a single file: engines load directories`, {
    remedy: 'Pass the directory that holds it, with its config.json, or use --transport nccl.',
  });
}

function targetOf(spec: string | EngineSpec, settings: Settings): EngineTarget {
  const { url, ...own } = typeof spec === 'string' ? { url: spec } : spec;
  return parseEngine(url, {
    apiKey: settings.apiKey ?? undefined,
    ...own,
    headers: { ...settings.headers, ...own.headers },
  });
}

/**
 * Connects to every engine: reads its version and routes, and chooses its dialect. Nothing is paused or changed.
 *
 * @example
 * await using fleet = await connectFleet({ engines: ['vllm=http://127.0.0.1:8000'] });
 * await fleet.update('/checkpoints/step_100', { version: '100' });
 *
 * @throws WeightcastError WC_CONFIG_INVALID, WC_ENGINE_UNREACHABLE, WC_ENGINE_VERSION, WC_ENGINE_DEV_MODE
 */
export async function connectFleet(options: FleetOptions): Promise<FleetSession> {
  const settings = resolveSettings(options);
  const targets = settings.engines.map((spec) => targetOf(spec, settings));
  const twice = targets.find(
    (target, index) => targets.findIndex((other) => other.id === target.id) !== index,
  );
  if (twice !== undefined)
    throw new WeightcastError('WC_CONFIG_INVALID', `engine ${twice.id} is listed twice`);

  const http = createHttpClient();
  const signal = AbortSignal.timeout(settings.timeouts.probe * 2);
  setMaxListeners(0, signal);
  const { done, failed } = await onAll(targets, (target) => connectEngine(http, target, { signal }));
  const [first] = failed;
  if (first !== undefined) {
    await http.close();
    throw asWeightcastError(first[1], 'WC_ENGINE_UNREACHABLE', { engine: first[0], phase: 'preflight' });
  }
  const engines = targets.map((target): EngineLink => {
    const admin = done.get(target.id);
    if (admin === undefined) throw new Error('unreachable: every engine connected');
    return {
      id: target.id,
      url: target.url,
      dialect: target.dialect,
      admin,
      call: (exchange, call = {}) =>
        http.exchange(target, exchange, { signal: call.signal, timeoutMs: call.timeoutMs }),
    };
  });
  return new FleetSession(settings, http, engines);
}

/**
 * One update with a session of its own.
 *
 * @throws UpdateError with `.report`, and what {@link connectFleet} throws
 */
export async function pushWeights(
  weights: string,
  options: FleetOptions & UpdateOptions,
): Promise<UpdateReport> {
  const session = await connectFleet(options);
  try {
    return await session.update(weights, options);
  } finally {
    await session.close();
  }
}
