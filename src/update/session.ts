/** A fleet that a trainer pushes to again and again: the communicator, the connections and the staging outlive an update. */
import { setMaxListeners } from 'node:events';
import { resolve } from 'node:path';
import { asWeightcastError, WeightcastError } from '../errors.js';
import type { ElasticPool } from '../fleet/elastic/pool.js';
import type { EngineLink } from '../fleet/engine.js';
import { type HeldFolder, holdPublished } from '../transports/filesystem/published/hold.js';
import type { KnownDigests } from '../transports/filesystem/published/known-digests.js';
import { orLeave } from '../waits.js';
import { type Checkpoint, openCheckpoint } from '../weights/checkpoint.js';
import { checkpointIdentity } from '../weights/identity.js';
import type { ProofVerdict } from '../weights/proof.js';
import { type AdapterOptions, type AdapterReport, loadAdapter } from './adapters.js';
import type { Attempt, Carrier } from './attempt.js';
import type { Claim } from './claim/claim.js';
import { claimForUpdate, unlessBusy } from './claim/for-update.js';
import { groupMarks, weightMarks } from './claim/group-marks.js';
import { NO_JOURNAL } from './claim/journal.js';
import { conclude, describeWeights } from './conclude.js';
import { carryOut } from './coordinator.js';
import { HeldVersions } from './delta/held.js';
import type { Delta } from './delta/prepare.js';
import { PreviousVersions } from './delta/previous.js';
import { deltaRequest, deltaUnlessFiles } from './delta/request.js';
import { DigestBook } from './digests.js';
import type { FleetConnections } from './fleet-connections.js';
import { connectAll } from './fleet-connections.js';
import { Guardian, guarded } from './guardian/guardian.js';
import { Ledger } from './ledger.js';
import { openMembership } from './membership.js';
import { NcclSender } from './nccl-sender.js';
import { newcomerSync } from './newcomers.js';
import {
  directoryOf,
  type ProofMethods,
  preflight,
  proofMethods,
  type SessionMemory,
  takeDigests,
} from './preflight.js';
import { readBack } from './read-back.js';
import { SessionPool } from './session-pool.js';
import { resolveSettings, type Settings } from './settings.js';
import { filesystemCarrier } from './transfer-files.js';
import type { FleetOptions, Phase, TransferReport, UpdateOptions, UpdateReport } from './types.js';

/** Engines of a fleet, connected. Made by {@link connectFleet}. */
export class FleetSession {
  readonly #settings: Settings;
  readonly #fleet: FleetConnections;
  readonly #pool: SessionPool | null;
  readonly #sender: NcclSender;
  readonly #learned = new Map<number, ProofVerdict>();
  readonly #closing = new AbortController();
  #guardian: Guardian | null = null;
  readonly #memory: SessionMemory;
  readonly #previous: PreviousVersions;
  /** Served name of each adapter that this session loaded. */
  readonly #adapters = new Map<string, string>();
  #updates = 0;
  #running: Promise<unknown> | null = null;

  constructor(settings: Settings, fleet: FleetConnections, pool: SessionPool | null = null) {
    this.#settings = settings;
    this.#fleet = fleet;
    this.#pool = pool;
    this.#sender = new NcclSender(groupMarks(settings.state));
    this.#memory = {
      weightVersions: new Map(),
      processStarts: new Map(),
      late: new Set(),
      held: new HeldVersions(weightMarks(settings.state)),
    };
    this.#previous = new PreviousVersions(this.#memory.held);
  }

  get engines(): readonly EngineLink[] {
    return this.#fleet.engines;
  }

  /**
   * What a discovered or elastic fleet is known to be between updates: states, URLs that are ready for requests, metrics. Newcomers are brought to the version of the last
   * update. null for a fleet that is listed.
   */
  get pool(): ElasticPool | null {
    return this.#pool?.started() ?? null;
  }

  /**
   * Moves every engine to the weights at `weights` (a checkpoint directory or a .safetensors file).
   *
   * @returns the report, when every engine serves the new version
   * @throws UpdateError with `.report` when not, also WC_UPDATE_BUSY when somebody else updates one of the engines; WeightcastError WC_UPDATE_BUSY when this
   * session does, WC_NATIVE_CLOSED
   */
  async update(weights: string, options: UpdateOptions = {}): Promise<UpdateReport> {
    return this.#alone(() => this.#run(resolve(weights), options));
  }

  async #alone<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closing.signal.aborted) throw new WeightcastError('WC_NATIVE_CLOSED', 'the session is closed');
    if (this.#running !== null) {
      throw new WeightcastError('WC_UPDATE_BUSY', 'an update is already running in this session');
    }
    const running = work();
    this.#running = running;
    try {
      return await running;
    } finally {
      this.#running = null;
    }
  }

  /**
   * Serves a new version of a LoRA adapter on every engine, under a name of its own ('policy-v17'), and unloads the version that this session loaded before.
   * Nobody is paused. Those who are found are looked up again first, as before an update.
   *
   * @example
   * const { servedAs } = await fleet.loadAdapter('/adapters/step_17', { name: 'policy', version: '17' });
   *
   * @throws WeightcastError WC_CHECKPOINT_NOT_FOUND, WC_CONFIG_INVALID, WC_NATIVE_CLOSED, WC_UPDATE_BUSY when this session is updating, WC_DISCOVERY_FAILED, and
   * what an engine answers; no engine serves the version then
   */
  async loadAdapter(directory: string, options: AdapterOptions): Promise<AdapterReport> {
    return this.#alone(() => this.#loadAdapter(directory, options));
  }

  async #loadAdapter(directory: string, options: AdapterOptions): Promise<AdapterReport> {
    const signal = this.#signalOf(options);
    const previous = this.#adapters.get(options.name) ?? null;
    const release = await this.#pool?.hold(signal);
    try {
      const { gone, notes } = await this.#fleet.refresh(signal);
      this.#forget(gone);
      const report = await loadAdapter(this.#fleet.engines, directory, { ...options, signal, previous });
      this.#adapters.set(options.name, report.servedAs);
      this.#pool?.adapterLoaded(report, this.#fleet.members, resolve(directory));
      return { ...report, notes: [...notes, ...report.notes] };
    } finally {
      release?.();
    }
  }

  /** Also when the session is closed. */
  #signalOf({ signal }: Pick<UpdateOptions, 'signal'>): AbortSignal {
    const either = AbortSignal.any([this.#closing.signal, ...(signal === undefined ? [] : [signal])]);
    // One listener for each request in flight, which is no leak however large the fleet.
    setMaxListeners(0, either);
    return either;
  }

  async #run(path: string, options: UpdateOptions): Promise<UpdateReport> {
    const signal = this.#signalOf(options);
    const release = await this.#pool?.hold(signal);
    const look = await this.#fleet.refresh(signal).then(
      (refreshed) => ({ refreshed, error: null }),
      (error: unknown) => ({ refreshed: null, error }),
    );
    const verify = options.verify ?? this.#settings.verify;
    const settings = { ...this.#settings, engines: this.#fleet.specs, verify };
    let claim: Claim | null = null;
    const ledger = new Ledger(this.#fleet.engines, (event) => {
      claim?.record.observe(event);
      settings.onEvent(event);
    });
    let interruptedIn: Phase | null = null;
    signal.addEventListener('abort', () => {
      interruptedIn = ledger.phase;
    });
    const version = options.version ?? null;
    let held: HeldFolder | null = null;
    let checkpoint: Checkpoint | null = null;
    let identity: string | null = null;
    let book: DigestBook | null = null;
    let carrier: Carrier | null = null;
    let transfer: TransferReport | null = null;
    let delta: Delta | null = null;
    let failure: unknown = null;
    try {
      ledger.enter('preflight');
      signal.throwIfAborted();
      if (look.refreshed === null) throw look.error;
      this.#forget(look.refreshed.gone);
      for (const note of look.refreshed.notes) ledger.note(note);
      claim = await claimForUpdate({
        settings,
        engines: this.#fleet.engines,
        weights: path,
        version,
        signal,
      });
      // One that was killed is followed by another.
      if (this.#guardian?.ended) this.#guardian = null;
      this.#guardian ??= settings.guardian && claim !== null ? Guardian.start(settings) : null;
      const journal = claim?.record ?? NO_JOURNAL;
      const found = await preflight(this.#fleet, {
        settings,
        ledger,
        signal,
        memory: this.#memory,
        journal,
        found: claim?.found ?? [],
      });
      if (found.changed) this.#sender.distrust();
      // The weights may lie on a file system that hangs.
      const holding = holdPublished(path, { signal, onNote: (text) => ledger.note(text) });
      held = await orLeave(holding, signal, (late) => late?.[Symbol.asyncDispose]());
      checkpoint = await orLeave(openCheckpoint(path, { signal }), signal);
      await held?.requireAgreement(checkpoint);
      // For newcomers and for the next delta: what the transfer finds changed fails it.
      identity = await checkpointIdentity(path);
      const asked = deltaRequest(options, {
        transport: settings.transport,
        previous: this.#previous,
        held: this.#memory.held,
        // Hashed from its files: the difference is taken to what they are now, not to what was published.
        bookOf: (base) => this.#openBook(base, settings, null),
      });
      const attempt: Attempt = {
        settings,
        engines: this.#fleet.engines,
        ledger,
        journal,
        checkpoint,
        version,
        facts: found.facts,
        late: this.#memory.late,
        signal,
      };
      book = this.#openBook(checkpoint, settings, (await held?.digests()) ?? null);
      const unsettled = found.changed || found.suspects || this.#memory.late.size > 0;
      const methods = this.#methods(settings, unsettled);
      // Hashing reads the bytes, so that the transfer finds them in the page cache.
      if (methods.digest) await takeDigests(attempt, book);
      delta = asked === null ? null : await deltaUnlessFiles(attempt, asked);
      const byFiles = settings.transport === 'filesystem' || (asked !== null && delta === null);
      carrier = byFiles
        ? filesystemCarrier(directoryOf(checkpoint, path))
        : await this.#sender.prepare(attempt, delta);
      // What is staged has its files open, so nothing is left of them however this ends.
      await delta?.close();
      await this.#memory.held.announce(this.#ids());
      const onTransferred = (report: TransferReport) => {
        transfer = report;
      };
      if (claim !== null && this.#guardian !== null) {
        const watched = { record: claim.record, settings };
        this.#guardian = await guarded(this.#guardian, watched, (text) => ledger.note(text));
      }
      await carryOut({ attempt, carrier, book, ...methods, onTransferred });
      await readBack(attempt, this.#memory.weightVersions);
    } catch (error) {
      failure = signal.aborted
        ? new WeightcastError('WC_UPDATE_ABORTED', 'interrupted', {
            phase: interruptedIn ?? ledger.phase ?? undefined,
            cause: error,
          })
        : asWeightcastError(error, 'WC_UPDATE_FAILED', { phase: ledger.phase ?? undefined });
    } finally {
      await carrier?.close().catch(() => undefined);
      await delta?.close().catch(() => undefined);
      this.#memory.held.remember(this.#ids(), ledger, identity);
      if (options.delta === true && identity !== null)
        await this.#previous.keep({ path, version, identity, hold: held });
      else await held?.[Symbol.asyncDispose]();
      await claim?.release(ledger.reasons()).catch((error) => ledger.note(String(error)));
      this.#guardian?.idle();
      const directory = checkpoint?.path ?? path;
      this.#pool?.updated(ledger, this.#fleet.members, { directory, version, identity });
      release?.();
    }
    const report = conclude({
      ledger,
      error: failure,
      head: {
        version,
        transport: carrier?.name ?? settings.transport,
        emulated: this.#sender.emulated,
        weights: describeWeights(path, checkpoint, book?.checkpointDigest ?? null),
        transfer,
        delta: carrier?.name === 'nccl' ? (delta?.report ?? null) : null,
        memory: this.#sender.memory,
        nccl: carrier?.name === 'nccl' ? this.#sender.describe() : null,
      },
    });
    this.#updates += 1;
    return report;
  }

  #ids(): string[] {
    return this.engines.map(({ id }) => id);
  }

  /** These engines are others now, or have left: the next group is a new one. */
  #forget(gone: readonly string[]): void {
    for (const id of gone) {
      this.#memory.weightVersions.delete(id);
      this.#memory.processStarts.delete(id);
      this.#memory.late.delete(id);
      this.#memory.held.forget(id);
    }
    if (gone.length > 0) this.#sender.distrust();
  }

  #openBook(checkpoint: Checkpoint, settings: Settings, known: KnownDigests | null): DigestBook {
    return new DigestBook(checkpoint, {
      known,
      learned: this.#learned,
      onProgress: (bytes, totalBytes) =>
        settings.onEvent({ kind: 'progress', phase: 'preflight', bytes, totalBytes }),
    });
  }

  #methods({ verify }: Settings, unsettled: boolean): ProofMethods {
    return proofMethods(verify, this.#fleet.engines, this.#updates === 0 || unsettled);
  }

  /**
   * Ends the communicator and the connections; a running update is interrupted and awaited first, so that engines are left in a defined state.
   * Safe to call twice.
   */
  async close(): Promise<void> {
    this.#closing.abort(new WeightcastError('WC_UPDATE_ABORTED', 'the session was closed'));
    await this.#running?.catch(() => undefined);
    await this.#pool?.close();
    await this.#sender.close((farewell) =>
      unlessBusy({ settings: this.#settings, engines: this.#fleet.engines }, farewell),
    );
    await this.#fleet.close();
    await this.#previous[Symbol.asyncDispose]();
    await this.#guardian?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * Connects to every engine: reads its version and routes, and chooses its dialect. Nothing is paused or changed.
 *
 * @example
 * await using fleet = await connectFleet({ engines: ['vllm=http://127.0.0.1:8000'] });
 * await fleet.update('/checkpoints/step_100', { version: '100' });
 *
 * @throws WeightcastError WC_CONFIG_INVALID, WC_ENGINE_UNREACHABLE, WC_ENGINE_VERSION, WC_ENGINE_DEV_MODE, WC_DISCOVERY_FAILED
 */
export async function connectFleet(options: FleetOptions): Promise<FleetSession> {
  const settings = resolveSettings(options);
  const membership = openMembership(settings);
  const fleet = await connectAll(settings, membership);
  const pool =
    membership === null ? null : new SessionPool(settings, membership, newcomerSync(options, connectFleet));
  return new FleetSession(settings, fleet, pool);
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
