/** Everything that is asked and checked before anybody is paused. */
import { WeightcastError } from '../errors.js';
import { requireAwake } from '../fleet/asleep.js';
import { type CallOptions, type EngineFacts, type EngineLink, onAll, probeEngine } from '../fleet/engine.js';
import { requireModel } from '../fleet/served-model.js';
import { type Checkpoint, openCheckpoint } from '../weights/checkpoint.js';
import type { Attempt } from './attempt.js';
import { type Finding, findingOf } from './claim/found.js';
import type { Journal } from './claim/journal.js';
import { describeRecord } from './claim/record.js';
import type { FoundRecord } from './claim/records.js';
import type { HeldVersions } from './delta/held.js';
import type { DigestBook } from './digests.js';
import type { FleetConnections } from './fleet-connections.js';
import { withoutChecker, withoutDiskLoad } from './lacking.js';
import type { Ledger } from './ledger.js';
import type { Settings } from './settings.js';
import { requireOutOfJoin, stuckInJoin } from './stuck-in-join.js';
import type { VerifyMode } from './types.js';

export interface PreflightInput {
  readonly settings: Settings;
  readonly ledger: Ledger;
  readonly signal: AbortSignal;
  readonly memory: SessionMemory;
  readonly journal: Journal;
  /** What pushes that died have left of these engines. */
  readonly found: readonly FoundRecord[];
}

/** What a session remembers of its engines between updates. */
export interface SessionMemory {
  /** Weight version as read back after the last update: another value means that the engine was restarted or changed by others. */
  readonly weightVersions: Map<string, string>;
  /** Unix seconds at which the engine's process started; null where it does not say. */
  readonly processStarts: Map<string, number | null>;
  /** Engines whose workers answer late; see late-answers.ts. */
  readonly late: Set<string>;
  readonly held: HeldVersions;
}

export interface PreflightResult {
  readonly facts: ReadonlyMap<string, EngineFacts>;
  /** Some engine is not the process, or does not hold the version, that the last update left. */
  readonly changed: boolean;
  /** Some engine was found paused. */
  readonly suspects: boolean;
}

/**
 * Asks every engine for its facts. One that is found paused may be broken by a push that died: it is quarantined until it holds known bytes, unless the
 * journal of that push says that it was not touched; then it is resumed.
 *
 * @throws WeightcastError of the first engine that does not answer, WC_CONFIG_INVALID, and what a broken recover directory gives
 */
export async function preflight(fleet: FleetConnections, input: PreflightInput): Promise<PreflightResult> {
  const { settings, ledger, signal, memory, journal } = input;
  const options: CallOptions = { signal, timeoutMs: settings.timeouts.probe };
  const { done, failed } = await onAll(fleet.engines, async (engine) => {
    const facts = await probeEngine(engine, options).catch((error: unknown) => {
      throw stuckInJoin(input.found, engine.id, error) ?? error;
    });
    requireAwake(engine.id, facts.sleep);
    requireModel(engine.id, settings.servedModel, facts.models);
    const before = memory.processStarts.get(engine.id);
    // One that can't say now has not said that it was restarted.
    if (facts.processStart !== null || before === undefined)
      memory.processStarts.set(engine.id, facts.processStart);
    const restarted = isOther(before, facts.processStart);
    if (restarted) {
      memory.late.delete(engine.id);
      await fleet.reconnect(engine, signal);
    }
    const left = await takeOver(engine, facts, input);
    return { facts, restarted, left };
  });

  let changed = false;
  for (const engine of fleet.engines) {
    const seen = done.get(engine.id);
    if (seen === undefined) continue;
    const { facts, restarted, left } = seen;
    ledger.identify(engine.id, { engineVersion: engine.admin.version, workers: facts.workers });
    for (const note of engine.admin.notes) ledger.note(`${engine.id}: ${note}`);
    const explained = explain(left, facts.paused === true);
    if (explained !== null) ledger.note(`${engine.id}: ${explained}`);
    if (left.kind === 'doubt' || left.kind === 'whole') ledger.set(engine.id, 'quarantined', explained);
    else if (facts.paused === true && left.kind !== 'untouched')
      ledger.set(engine.id, 'quarantined', FOUND_PAUSED);
    else ledger.set(engine.id, 'serving-old');
    const tag = memory.weightVersions.get(engine.id);
    const retagged = tag !== undefined && facts.weightVersion !== null && tag !== facts.weightVersion;
    if (restarted) ledger.note(`${engine.id}: was restarted since the last update`);
    else if (retagged)
      ledger.note(`${engine.id}: has weight version ${facts.weightVersion}, not ${tag}: others changed it`);
    // One that doesn't say when it was started may be another process by now.
    if (restarted || retagged || facts.processStart === null) memory.held.forget(engine.id);
    changed ||= restarted || retagged;
  }
  for (const [id, error] of failed) ledger.fail(id, error);
  const [first] = failed;
  if (first !== undefined) throw first[1];
  await checkOptions(fleet.engines, settings, signal);
  await journal.started(new Map([...done].map(([id, { facts }]) => [id, facts.processStart])));
  return {
    facts: new Map([...done].map(([id, { facts }]) => [id, facts])),
    changed,
    suspects: ledger.in('quarantined').length > 0,
  };
}

function isOther(before: number | null | undefined, now: number | null): boolean {
  return typeof before === 'number' && now !== null && before !== now;
}

const FOUND_PAUSED =
  'found paused: an earlier push may have died in it, or one that shares no state directory with this one is updating it now';

/** Resumes an engine that a push left paused and untouched: at once, so that it serves while this update prepares. */
async function takeOver(
  engine: EngineLink,
  facts: EngineFacts,
  { found, settings, signal }: PreflightInput,
): Promise<Finding> {
  const finding = findingOf(found, {
    url: engine.url,
    paused: facts.paused === true,
    processStart: facts.processStart,
    mayHideAPause: facts.paused === null || engine.admin.capabilities.isPausedLiesAfterKeep,
  });
  await requireOutOfJoin(engine, facts, finding, found, { signal, timeoutMs: settings.timeouts.probe });
  if (finding.kind === 'untouched') {
    await engine.call(engine.admin.resume(), { signal, timeoutMs: settings.timeouts.resume });
  }
  return finding;
}

function explain({ kind, record, engine }: Finding, paused: boolean): string | null {
  if (record === null || engine === null) return null;
  const who = `${describeRecord(record.head)} ended and left it`;
  const why = engine.reason === null ? '' : ` (${engine.reason})`;
  const found = paused ? 'found paused' : 'found serving';
  if (kind === 'untouched')
    return `${who} ${paused ? 'paused and untouched' : 'untouched, and perhaps paused'}: resumed`;
  if (kind === 'whole') return `${found}: ${who} with whole new weights that it did not resume`;
  return `${found}: ${who} between two versions${why}`;
}

async function checkOptions(
  engines: readonly EngineLink[],
  settings: Settings,
  signal: AbortSignal,
): Promise<void> {
  const unable = engines.find((engine) => !engine.admin.capabilities.weightChecker);
  if (settings.verify === 'digest' && unable !== undefined) {
    throw withoutChecker(unable);
  }
  const stuck = engines.find(({ admin }) => !admin.capabilities.diskLoad);
  if (settings.transport === 'filesystem' && stuck !== undefined) throw withoutDiskLoad(stuck);
  if (settings.recover !== null) {
    const old = await openCheckpoint(settings.recover, { signal });
    directoryOf(old, settings.recover);
  }
}

export interface ProofMethods {
  readonly digest: boolean;
  readonly fingerprint: boolean;
}

/** By default the first update is proved by digest where engines can, and by fingerprint where they can't; later ones by fingerprint. */
export function proofMethods(
  verify: VerifyMode,
  engines: readonly EngineLink[],
  first: boolean,
): ProofMethods {
  if (verify !== 'auto') return { digest: verify === 'digest', fingerprint: verify === 'fingerprint' };
  const checkers = engines.filter((engine) => engine.admin.capabilities.weightChecker).length;
  const digest = first && checkers > 0;
  return { digest, fingerprint: !digest || checkers < engines.length };
}

/** Hashes what engines with a checker may report, so that nothing has to be hashed in the pause. */
export async function takeDigests(attempt: Attempt, book: DigestBook): Promise<void> {
  for (const engine of attempt.engines) {
    const workers = attempt.facts.get(engine.id)?.workers;
    if (engine.admin.capabilities.weightChecker && workers !== undefined && book.canPrepare(workers))
      await book.prepare(workers, attempt.signal);
  }
}

/** @throws WeightcastError WC_CONFIG_INVALID for a bare file: engines load directories */
export function directoryOf(checkpoint: Checkpoint, path: string): string {
  if (checkpoint.path !== null) return checkpoint.path;
  throw new WeightcastError('WC_CONFIG_INVALID', `${path} is a single file: engines load directories`, {
    remedy: 'Pass the directory that holds it, with its config.json, or use --transport nccl.',
  });
}
