/** A follower's claim on its engines, for as long as it follows: no push and no other follower may drive them meanwhile, not between two versions either. */
import type { WeightcastError } from '../errors.js';
import { type Claim, claimEngines } from '../update/claim/claim.js';
import type { Asked } from '../update/claim/journal.js';
import type { PushFacts } from '../update/claim/record.js';
import { openStateDirectory, statePlace } from '../update/claim/state-directory.js';
import type { EngineState } from '../update/types.js';
import { checkpointIdentity } from '../weights/identity.js';

export interface ClaimedEngines {
  /** As FleetOptions has it. */
  readonly stateDir: string | null | undefined;
  /** Engines load directories, so one that is left in the middle may be healed by the directory again. */
  readonly loadsFiles: boolean;
  /** Only names are written. */
  readonly headers: Readonly<Record<string, string>> | undefined;
}

/** How long a follower waits for those who put engines right after another one died. */
const PATIENCE_MS = 30_000;

export class FollowerClaim {
  readonly #engines: readonly string[];
  readonly #options: ClaimedEngines;
  readonly #directory: string;
  #claim: Claim;

  private constructor(engines: readonly string[], options: ClaimedEngines, directory: string, claim: Claim) {
    this.#engines = engines;
    this.#options = options;
    this.#directory = directory;
    this.#claim = claim;
  }

  /**
   * @param engines ids
   * @returns null where no state is kept
   * @throws WeightcastError WC_UPDATE_BUSY, WC_STATE_DIR
   */
  static async take(
    engines: readonly string[],
    options: ClaimedEngines,
    signal: AbortSignal,
  ): Promise<FollowerClaim | null> {
    if (options.stateDir === null) return null;
    const directory = await openStateDirectory(statePlace(options.stateDir));
    const claim = await claimEngines({
      ...{ directory, engines, role: 'orchestrate', signal, patienceMs: PATIENCE_MS },
      push: factsOf(options, { weights: null, version: null }),
    });
    return new FollowerClaim(engines, options, directory, claim);
  }

  /**
   * Before the engines are asked for anything of this version: a record of its own, which takes the place of the one before, so that a follower that runs for
   * months has no file that grows.
   */
  async begin(weights: string, version: string): Promise<void> {
    const { loadsFiles } = this.#options;
    const before = this.#claim;
    // What it knows must be in it: its successor keeps what it finds in doubt.
    await before.record.flush();
    const identity = loadsFiles ? await checkpointIdentity(weights) : null;
    this.#claim = await claimEngines({
      ...{ directory: this.#directory, engines: this.#engines, role: 'orchestrate', patienceMs: PATIENCE_MS },
      push: factsOf(this.#options, { weights, version, ...(identity === null ? {} : { identity }) }),
      successorOf: before.record.head.id,
    });
    await before.release();
  }

  /** About to be asked of all. @throws WeightcastError WC_STATE_DIR, and WC_UPDATE_BUSY when somebody took this process for dead and took over */
  ask(what: Asked, directory?: string): Promise<void> {
    return this.#claim.record.ask(what, this.#engines, directory);
  }

  /** All ranks have met, or nobody waits for the others any more. */
  joined(): Promise<void> {
    return this.#claim.record.joined();
  }

  /** What has become of all of them. */
  are(state: EngineState): void {
    for (const engine of this.#engines) this.#is(engine, state, null);
  }

  /** What has become of them by the error of an update: those that it does not name serve what they served. */
  ended({ code, details, message }: WeightcastError): void {
    this.are('serving-old');
    const named = (key: string) =>
      Array.isArray(details[key]) ? (details[key] as unknown[]).map(String) : [];
    const mixed = code === 'WC_UPDATE_QUARANTINED';
    if (mixed) for (const id of named('resumed')) this.#is(id, 'serving-new', null);
    for (const id of named('paused')) this.#is(id, 'quarantined', message);
    for (const id of named('unresumed')) this.#is(id, mixed ? 'received' : 'paused', message);
  }

  #is(engine: string, state: EngineState, reason: string | null): void {
    if (this.#engines.includes(engine)) this.#claim.record.observe({ kind: 'engine', engine, state, reason });
  }

  /** The engines are anybody's again; of those that need help the record stays. */
  async release(): Promise<void> {
    await this.#claim.release();
  }
}

function factsOf(
  { loadsFiles, headers }: ClaimedEngines,
  weights: { readonly weights: string | null; readonly version: string | null; readonly identity?: string },
): PushFacts {
  const fallback = loadsFiles ? 'filesystem' : 'none';
  return { ...weights, fallback, recover: null, verify: 'auto', headerNames: Object.keys(headers ?? {}) };
}
