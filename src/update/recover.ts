/**
 * What becomes of engines whose coordinator died: by its journal, by what they say now, and by the same steps with which a coordinator ends its own failures.
 * Whole new versions are proved and resumed, untouched old ones are resumed, the rest is loaded from disk where that is allowed, or stays paused and is reported.
 */
import { asWeightcastError, WeightcastError } from '../errors.js';
import { requireAwake } from '../fleet/asleep.js';
import { type EngineFacts, type EngineLink, onAll, probeEngine } from '../fleet/engine.js';
import { type Checkpoint, openCheckpoint } from '../weights/checkpoint.js';
import { checkpointIdentity } from '../weights/identity.js';
import { type Attempt, type Carrier, enginesIn } from './attempt.js';
import { type Claim, claimEngines } from './claim/claim.js';
import { pushFacts } from './claim/for-update.js';
import {
  type Beside,
  besides,
  type Finding,
  findingOf,
  isSamePush,
  type SeenEngine,
  servesNew,
} from './claim/found.js';
import { weightMarks } from './claim/group-marks.js';
import { engineKey } from './claim/identity.js';
import { describeRecord, type PushFacts } from './claim/record.js';
import { openStateDirectory } from './claim/state-directory.js';
import { carryOutPaused } from './coordinator.js';
import { DigestBook } from './digests.js';
import { connectReachable } from './fleet-connections.js';
import { Ledger } from './ledger.js';
import { listedSettings } from './membership.js';
import { directoryOf } from './preflight.js';
import { readBack } from './read-back.js';
import { resolveSettings, type Settings } from './settings.js';
import { requireOutOfJoin, stuckInJoin } from './stuck-in-join.js';
import { targetsOf } from './targets.js';
import type { EngineReport, EngineState, FleetOptions, UpdateEvent } from './types.js';

export interface RecoveryRequest {
  readonly settings: Settings;
  /** Released at the end. */
  readonly claim: Claim;
  /** A directory to load on engines that can't be resumed as they are; default: what the push that died allows. */
  readonly from?: string | undefined;
  readonly onEvent?: (event: UpdateEvent) => void;
}

export interface RecoveryReport {
  /** failed: of some engine it is not known what it does. */
  readonly outcome: 'recovered' | 'quarantined' | 'failed';
  readonly engines: readonly EngineReport[];
  /** The pushes that had died. */
  readonly found: readonly string[];
  readonly notes: readonly string[];
}

export interface RecoverOptions {
  readonly from?: string | undefined;
  readonly signal?: AbortSignal;
}

/**
 * Puts engines right after a push that was killed: `weightcast recover`. Without `from` only what is known to be safe is done: untouched engines are resumed, whole
 * new versions are proved and resumed, and directories are loaded as far as the push that died had been allowed to.
 *
 * @example
 * const { outcome, engines } = await recoverFleet({ engines: ['http://gpu-1:8000'] }, { from: '/checkpoints/step_99' });
 *
 * @throws WeightcastError WC_UPDATE_BUSY, WC_STATE_DIR, WC_CONFIG_INVALID, and what a `from` that can't be read gives
 */
export async function recoverFleet(
  options: FleetOptions,
  { from, signal }: RecoverOptions = {},
): Promise<RecoveryReport> {
  const settings = await listedSettings(resolveSettings(options), signal ?? new AbortController().signal);
  if (settings.state === null) {
    throw new WeightcastError(
      'WC_CONFIG_INVALID',
      'a recovery reads what a push left in the state directory',
    );
  }
  const directory =
    from === undefined ? undefined : directoryOf(await openCheckpoint(from, { signal }), from);
  const claim = await claimEngines({
    directory: await openStateDirectory(settings.state),
    engines: targetsOf(settings).map(({ url }) => url),
    role: 'recover',
    push: pushFacts(settings, {
      weights: directory ?? null,
      version: null,
      identity: directory === undefined ? null : await checkpointIdentity(directory),
    }),
    patienceMs: 0,
    signal,
  });
  return recoverEngines({ settings, claim, from: directory, onEvent: settings.onEvent });
}

/** Never rejects for an engine's sake: the report tells. */
export async function recoverEngines(request: RecoveryRequest): Promise<RecoveryReport> {
  const { claim, onEvent } = request;
  const settings = settingsOf(request);
  const fleet = await connectReachable(settings);
  const ledger = new Ledger(targetsOf(settings), (event) => {
    claim.record.observe(event);
    onEvent?.(event);
  });
  try {
    const plan = await lookAround(request, { ledger, settings, ...fleet });
    const before = new Set(ledger.in('serving-old', 'serving-new'));
    // A session that lives on must not take what is loaded here for what it gave.
    await weightMarks(settings.state)
      .set(plan.attempt.engines.map(({ id }) => id))
      .catch((error: unknown) => ledger.note(String(error)));
    await carryOutPaused(plan);
    explainWhatStays(request, plan.attempt, before);
    await readBack(plan.attempt, new Map()).catch(() => undefined);
    return report(claim, ledger);
  } finally {
    await claim.release(ledger.reasons()).catch(() => undefined);
    await fleet.close();
  }
}

/** The options of the push that died, where this command does not say otherwise. */
function settingsOf({ settings, claim, from }: RecoveryRequest): Settings {
  if (from !== undefined) return { ...settings, fallback: 'filesystem', recover: null };
  const push = claim.found.at(-1)?.head.push;
  if (push === undefined) return settings;
  return { ...settings, fallback: push.fallback, recover: settings.recover ?? push.recover };
}

interface Surroundings {
  readonly ledger: Ledger;
  readonly settings: Settings;
  readonly engines: readonly EngineLink[];
  /** Why the others could not be connected. */
  readonly failed: ReadonlyMap<string, unknown>;
}

/** Asks the engines and puts into the ledger what they are; then the same steps as after any failure can follow. */
async function lookAround(request: RecoveryRequest, { ledger, settings, engines, failed }: Surroundings) {
  const { claim, from } = request;
  ledger.enter('preflight');
  const identity = from === undefined ? null : await checkpointIdentity(from);
  const facts = new Map<string, EngineFacts>();
  const asked = await onAll(engines, async (engine) => {
    const seen = await probeEngine(engine, { timeoutMs: settings.timeouts.probe });
    requireAwake(engine.id, seen.sleep);
    const finding = findingOf(claim.found, seenOf(engine, seen));
    await requireOutOfJoin(engine, seen, finding, claim.found, { timeoutMs: settings.timeouts.probe });
    facts.set(engine.id, seen);
    ledger.identify(engine.id, { engineVersion: engine.admin.version, workers: seen.workers });
    judge(request, ledger, { engine, facts: seen, identity });
  });
  const silent = [...failed, ...asked.failed];
  const stuck = silent.filter(([id, error]) => unreachable(request, ledger, id, error));
  // The older record is over with this one: what it says of these must not be forgotten.
  if (stuck.length > 0) await claim.record.joined(stuck.map(([id]) => id)).catch(() => undefined);
  await claim.record
    .started(new Map([...facts].map(([id, { processStart }]) => [id, processStart])))
    .catch(() => undefined);

  const push = claim.found.at(-1)?.head.push;
  if (push !== undefined && from === undefined) {
    await claim.record.write({ event: 'inherits', push }).catch(() => undefined);
  }
  const checkpoint = from === undefined ? await openPushed(push, ledger) : await openOrNote(from, ledger);
  const recover = settings.recover === null ? null : await openOrNote(settings.recover, ledger);
  const attempt: Attempt = {
    settings: { ...settings, recover: recover === null ? null : settings.recover },
    engines: engines.filter(({ id }) => facts.has(id)),
    ledger,
    journal: claim.record,
    checkpoint: checkpoint ?? NO_CHECKPOINT,
    version: from === undefined ? (push?.version ?? null) : null,
    facts,
    late: new Set(),
    ...(from === undefined && push !== undefined
      ? { beside: besideThese(claim, push, { ledger, looked: [...facts.keys()] }) }
      : {}),
    signal: new AbortController().signal,
  };
  const digest = settings.verify !== 'none';
  if (digest && checkpoint === null) withholdUnproved(attempt);
  return {
    attempt,
    carrier: NOTHING_TO_CARRY,
    book: new DigestBook(attempt.checkpoint, { onProgress: () => {}, learned: new Map() }),
    digest: digest && checkpoint !== null && enginesIn(attempt, 'received').length > 0,
    fingerprint: false,
    onTransferred: () => {},
  };
}

function judge(
  { claim: { found }, from }: RecoveryRequest,
  ledger: Ledger,
  {
    engine,
    facts,
    identity,
  }: {
    readonly engine: EngineLink;
    readonly facts: EngineFacts;
    /** Of the directory that was given. */
    readonly identity: string | null;
  },
): void {
  const seen = seenOf(engine, facts);
  const push = found.at(-1)?.head.push;
  const [state, reason] = stateOf(findingOf(found, seen), {
    seen,
    servesNew: from === undefined && push !== undefined && servesNew(found, seen, push),
    isWanted: (held) =>
      from === undefined
        ? push !== undefined && isSamePush(held, push)
        : held.weights === from && held.identity === identity,
  });
  ledger.set(engine.id, state, reason);
}

function seenOf({ url, admin }: EngineLink, { paused, processStart }: EngineFacts): SeenEngine {
  const mayHideAPause = paused === null || admin.capabilities.isPausedLiesAfterKeep;
  return { url, paused: paused === true, processStart, mayHideAPause };
}

interface Circumstances {
  readonly seen: SeenEngine;
  readonly servesNew: boolean;
  /** Whether the weights of this push are the ones that engines are to be put on. */
  readonly isWanted: (held: PushFacts) => boolean;
}

function stateOf(
  { kind, engine, record }: Finding,
  { seen, servesNew, isWanted }: Circumstances,
): [EngineState, string | null] {
  switch (kind) {
    case 'untouched':
      return ['paused', 'left paused and untouched'];
    case 'whole':
      if (record !== null && !isWanted(record.head.push)) {
        return [
          'quarantined',
          `left paused with ${record.head.push.weights}, which the others are not to serve`,
        ];
      }
      return [engine?.state ?? 'received', 'left paused with a whole new version'];
    case 'doubt':
      return ['quarantined', whyInDoubt(engine?.reason ?? null, seen.paused)];
    case 'nothing':
      if (seen.paused) return ['quarantined', 'found paused, and no record says what its bytes are'];
      return servesNew ? ['serving-new', 'it serves the new version already'] : ['serving-old', null];
  }
}

function whyInDoubt(reason: string | null, paused: boolean): string {
  const why = reason ?? 'its update session was opened and not finished';
  return paused
    ? why
    : `${why}; somebody has resumed it, so it may be serving: take it out of the load balancer`;
}

/** Those that serve another version than this push brought: of the engines asked for by what they say, of all others by the records. */
function besideThese(
  { found }: Claim,
  push: PushFacts,
  { ledger, looked }: { readonly ledger: Ledger; readonly looked: readonly string[] },
): Beside {
  const { onNew, onOther } = besides(found, new Set(looked.map(engineKey)), push);
  return { onNew, onOther: onOther + ledger.in('serving-old').length };
}

/** @returns whether it is known to be stuck in a join */
function unreachable({ claim }: RecoveryRequest, ledger: Ledger, id: string, cause: unknown): boolean {
  const stuck = stuckInJoin(claim.found, id, cause);
  const error =
    stuck ?? asWeightcastError(cause, 'WC_ENGINE_UNREACHABLE', { engine: id, phase: 'preflight' });
  const known = claim.found.some(({ engines }) => engines.some(({ key }) => key === engineKey(id)));
  if (!known) ledger.fail(id, error);
  else {
    const what = error.code === 'WC_ENGINE_ASLEEP' ? 'wake' : 'restart';
    ledger.quarantine(id, error, `it can't be put right, ${what} it: ${error.message}`);
  }
  return stuck !== null;
}

/** @param before engines that served when this began, and were not paused */
function explainWhatStays({ from }: RecoveryRequest, attempt: Attempt, before: ReadonlySet<string>): void {
  const { ledger, beside, facts } = attempt;
  const moved = ledger.in('serving-new').filter((id) => !before.has(id));
  if (from !== undefined && moved.length > 0) {
    for (const id of before) {
      const version = facts.get(id)?.weightVersion ?? null;
      const says = version === null ? 'does not say which version' : `says weight version ${version}`;
      ledger.note(`${id}: was left alone beside engines that loaded ${from}: it serves, and ${says}`);
    }
  }
  const stuck = ledger.in('quarantined');
  if ((beside?.onOther ?? 0) === 0 || stuck.length === 0) return;
  ledger.note(
    `nothing was loaded on ${stuck.join(', ')}: other engines of the push serve, or may yet serve, another version; push to all of them again, or run weightcast recover --from DIR with the version that they serve`,
  );
}

/** Without the checkpoint nothing can be proved; what its coordinator would have proved first is not resumed unproved. */
function withholdUnproved(attempt: Attempt): void {
  for (const engine of enginesIn(attempt, 'received')) {
    if (!engine.admin.capabilities.weightChecker) continue;
    attempt.ledger.quarantine(
      engine.id,
      new WeightcastError(
        'WC_UPDATE_QUARANTINED',
        'the weights that it received can no longer be read to prove them',
        {
          engine: engine.id,
          phase: 'verify',
        },
      ),
    );
  }
}

async function openOrNote(path: string | null, ledger: Ledger): Promise<Checkpoint | null> {
  if (path === null) return null;
  return openCheckpoint(path).catch((error: unknown) => {
    ledger.note(`${path} can't be loaded: ${error instanceof Error ? error.message : String(error)}`);
    return null;
  });
}

/** The weights of the push that died, if they are still the files that it pushed: others must not be taken for them. */
async function openPushed(push: PushFacts | undefined, ledger: Ledger): Promise<Checkpoint | null> {
  const checkpoint = await openOrNote(push?.weights ?? null, ledger);
  if (checkpoint === null || push === undefined || push.weights === null) return checkpoint;
  // After they were opened: what is written later is found before it is loaded.
  if (push.identity === undefined || (await checkpointIdentity(push.weights)) !== push.identity) {
    ledger.note(
      `${push.weights} is not used: its files are not known to be those that were pushed; to load them nevertheless: weightcast recover --from`,
    );
    return null;
  }
  return checkpoint;
}

const NO_CHECKPOINT: Checkpoint = { path: null, files: [], tensors: [], byteLength: 0, metadata: new Map() };

/** The engines are paused and have what they have. */
const NOTHING_TO_CARRY: Carrier = {
  name: 'filesystem',
  transfer: async () => ({
    ...{ transport: 'filesystem', bytes: 0, frames: 0, elapsedMs: 0, bytesPerSecond: 0 },
    ...{ readMs: 0, copyMs: 0, broadcastMs: 0 },
  }),
  close: async () => {},
};

function report({ found }: Claim, ledger: Ledger): RecoveryReport {
  const { engines } = ledger.close();
  const serving = engines.every(({ state }) => state === 'serving-old' || state === 'serving-new');
  const stuck = engines.some(({ state }) => state !== 'unknown' && !state.startsWith('serving'));
  return {
    outcome: serving ? 'recovered' : stuck ? 'quarantined' : 'failed',
    engines,
    found: found.map(({ head }) => describeRecord(head)),
    notes: ledger.notes,
  };
}
