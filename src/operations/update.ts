/** Pause, update and resume of engines that nobody else drives: the orchestrator's half of an update, without a fleet or a session. */
import { basename, resolve } from 'node:path';
import type { Exchange, PauseMode } from '../engines/admin.js';
import { asWeightcastError, WeightcastError } from '../errors.js';
import { requireAwake } from '../fleet/asleep.js';
import { onAll } from '../fleet/engine.js';
import { type HeldFolder, holdPublished } from '../transports/filesystem/published/hold.js';
import {
  type ConnectedEngine,
  type EngineName,
  type OperationOptions,
  onEvery,
  withEngines,
} from './engines.js';

export interface PauseOptions extends OperationOptions {
  /** What becomes of running requests. Default 'keep'. */
  readonly mode?: PauseMode;
  /** Default false, as prime-rl pauses: its requests carry the weight version as cache_salt. */
  readonly clearCache?: boolean;
}

/** Pauses all at once. @throws WeightcastError of the first that failed; `details.done` names those that are paused now */
export function pause(engines: readonly EngineName[], options: PauseOptions = {}): Promise<void> {
  return withEngines(engines, options, async (connected) => {
    await onEvery(connected, (engine) => engine.call(pauseOf(engine, options)));
  });
}

/** Resumes all at once. @throws WeightcastError of the first that failed; `details.done` names those that serve */
export function resume(engines: readonly EngineName[], options: OperationOptions = {}): Promise<void> {
  return withEngines(engines, options, async (connected) => {
    await onEvery(connected, (engine) => engine.call(engine.admin.resume()));
  });
}

function pauseOf(
  { admin }: ConnectedEngine,
  { mode = 'keep', clearCache = false }: PauseOptions,
): Exchange<void> {
  return admin.pause({ mode, clearCache });
}

export interface UpdateWeightsOptions extends PauseOptions {
  /** Loads the directory as an adapter of this name instead; nobody is paused then. */
  readonly loraName?: string | undefined;
  /** 'broadcast': what rank 0 of their group sends is received, and the request is sent once. Default: 'disk' where an engine can, else 'broadcast'. */
  readonly from?: 'disk' | 'broadcast';
  /** Total milliseconds of the request to update; default: `timeoutMs`, or the backend's own patience. */
  readonly updateTimeoutMs?: number | undefined;
  /** The tag, for backends that take it with the update. Default: the name of the directory ('step_17'), as prime-rl tags. */
  readonly weightVersion?: string;
  /**
   * Runs when all are paused, and before any is asked to update: prime-rl's NCCL_READY. All are resumed untouched if it throws; once it has succeeded,
   * `signal` interrupts nothing any more: somebody may be sending.
   */
  readonly onPaused?: () => Promise<void>;
}

/**
 * Pauses every engine, updates every engine, and resumes those that are whole. One that did not say that it finished stays paused, since it may hold
 * a mixture: prime-rl's own client resumes it. Where one can't be paused, all are resumed untouched. An engine that records the tag (Dynamo) and says
 * another one afterwards counts as not whole (WC_VERIFY_MISMATCH).
 *
 * @param weightDir as the engines see it; a relative one is taken from the working directory here, since an engine takes it for a repository's name
 * @throws WeightcastError why nothing was updated, with everybody resumed (WC_ENGINE_ASLEEP: nobody was paused); or WC_UPDATE_QUARANTINED with the engines by what became of them in `details`:
 * `resumed`, `paused` (not whole), `unresumed` (whole, but not serving)
 */
export async function updateWeights(
  engines: readonly EngineName[],
  weightDir: string,
  options: UpdateWeightsOptions = {},
): Promise<void> {
  const { loraName, onLog, updateTimeoutMs } = options;
  const directory = resolve(weightDir);
  if (loraName !== undefined) return loadLoraAdapter(engines, loraName, directory, options);
  const weightVersion = options.weightVersion ?? basename(directory);
  const transport = options.from === 'disk' ? 'filesystem' : options.from && 'nccl';
  const update = async (connected: readonly ConnectedEngine[]): Promise<void> => {
    const updates = new Map(
      connected.map((engine) => [engine.id, updateOf(engine, directory, weightVersion, options)]),
    );
    await using _held = options.from === 'broadcast' ? null : await held(directory, options);
    await requireAllAwake(connected);
    await pauseOrResume(connected, options);
    const updated = await onAll(connected, async (engine) => {
      const limits = {
        signal: null,
        ...(updateTimeoutMs === undefined ? {} : { timeoutMs: updateTimeoutMs }),
      };
      await engine.call(updates.get(engine.id) as Exchange<unknown>, limits);
      await requireTag(engine, weightVersion, onLog);
    });
    const whole = connected.filter(({ id }) => updated.done.has(id));
    const resumed = await resumeAnyway(whole);
    if (updated.failed.size === 0 && resumed.failed.size === 0) return;
    throw quarantined(updated.failed, resumed);
  };
  return withEngines(engines, options, update, transport);
}

function updateOf(
  { admin, id }: ConnectedEngine,
  directory: string,
  weightVersion: string,
  { from }: UpdateWeightsOptions,
): Exchange<unknown> {
  const load = from === 'broadcast' ? null : admin.reloadFromDisk(directory, { weightVersion });
  if (load !== null) return load;
  if (from === 'disk') {
    throw new WeightcastError('WC_CONFIG_INVALID', `${id} loads no weights from a directory`, { engine: id });
  }
  return admin.updateWeights({ tensors: [], packing: null, weightVersion, directory });
}

/** @throws WeightcastError WC_ENGINE_ASLEEP; one that can't say passes */
async function requireAllAwake(engines: readonly ConnectedEngine[]): Promise<void> {
  await onEvery(engines, async ({ id, admin, call }) => {
    const exchange = admin.life?.();
    const life = exchange === undefined ? null : await call(exchange).catch(() => null);
    requireAwake(id, life?.sleep ?? null);
  });
}

async function pauseOrResume(
  engines: readonly ConnectedEngine[],
  options: UpdateWeightsOptions,
): Promise<void> {
  try {
    await onEvery(engines, (engine) => engine.call(pauseOf(engine, options)));
    options.signal?.throwIfAborted();
    await options.onPaused?.();
  } catch (error) {
    const { failed } = await resumeAnyway(engines);
    const cause = asWeightcastError(error, 'WC_UPDATE_ABORTED', { phase: 'pause' });
    if (failed.size === 0) throw cause;
    throw new WeightcastError(
      cause.code,
      `${cause.message}; still paused: ${[...failed.keys()].join(', ')}`,
      {
        engine: cause.engine ?? undefined,
        phase: 'pause',
        remedy: cause.remedy,
        cause,
        details: { ...cause.details, unresumed: [...failed.keys()] },
      },
    );
  }
}

/** Also when the caller's signal has aborted: leaving engines paused is never the better end. */
function resumeAnyway(engines: readonly ConnectedEngine[]) {
  return onAll(engines, (engine) => engine.call(engine.admin.resume(), { signal: null }));
}

/** An engine that keeps the tag of an update shows by it whether it took this one. One that can't say now passes, as in a session. */
async function requireTag(
  { id, admin, call }: ConnectedEngine,
  tag: string,
  onLog: ((line: string) => void) | undefined,
): Promise<void> {
  const exchange = admin.capabilities.needsWeightVersion === true ? admin.weightVersion() : null;
  if (exchange === null) return;
  const read = await call(exchange, { signal: null }).catch((error: unknown) => {
    onLog?.(`${id}: its weight version could not be read back: ${String(error)}`);
    return null;
  });
  if (read === null || read === tag) return;
  throw new WeightcastError(
    'WC_VERIFY_MISMATCH',
    `it says weight version ${read} after an update to ${tag}: it may have loaded something else`,
    { engine: id, phase: 'verify', remedy: 'See its log, and update it again.' },
  );
}

function quarantined(
  failed: ReadonlyMap<string, unknown>,
  resumed: { readonly done: ReadonlyMap<string, unknown>; readonly failed: ReadonlyMap<string, unknown> },
): WeightcastError {
  const [engine, error] = [...failed, ...resumed.failed][0] as [string, unknown];
  const cause = asWeightcastError(error, 'WC_ENGINE_HTTP', { engine });
  const paused = [...failed.keys()];
  const unresumed = [...resumed.failed.keys()];
  const words = [
    paused.length === 0 ? '' : `${paused.join(', ')} did not finish and stays paused`,
    unresumed.length === 0 ? '' : `${unresumed.join(', ')} holds the new weights and could not be resumed`,
  ].filter((text) => text !== '');
  return new WeightcastError('WC_UPDATE_QUARANTINED', `${words.join('; ')}: ${cause.message}`, {
    engine,
    phase: failed.size > 0 ? 'transfer' : 'resume',
    cause,
    details: { resumed: [...resumed.done.keys()], paused, unresumed },
  });
}

/**
 * Loads an adapter on all at once, while they serve. Backends repeat it as long as a shared file system may be late. prime-rl's servers replace an adapter
 * of the same name; others refuse it, or keep what they have without a word (Dynamo): give each version a name of its own there.
 *
 * @param path as the engines see it; a relative one is taken from the working directory here
 * @throws WeightcastError of the first that failed; `details.done` names those that have it
 */
export function loadLoraAdapter(
  engines: readonly EngineName[],
  name: string,
  path: string,
  options: OperationOptions = {},
): Promise<void> {
  const directory = resolve(path);
  return withEngines(engines, options, async (connected) => {
    await using _held = await held(directory, options);
    await onEvery(connected, (engine) =>
      engine.call(engine.admin.loadLoraAdapter({ name, path: directory })),
    );
  });
}

/** What weightcast has published is looked at before anybody is asked to load it, and stays there meanwhile. */
function held(directory: string, { signal, onLog }: OperationOptions): Promise<HeldFolder | null> {
  return holdPublished(directory, { signal, onNote: onLog });
}

/** @throws WeightcastError of the first that failed; `details.done` names those that no longer have it */
export function unloadLoraAdapter(
  engines: readonly EngineName[],
  name: string,
  options: OperationOptions = {},
): Promise<void> {
  return withEngines(engines, options, async (connected) => {
    await onEvery(connected, (engine) => engine.call(engine.admin.unloadLoraAdapter({ name })));
  });
}
