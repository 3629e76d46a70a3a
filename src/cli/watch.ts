/** `weightcast watch`: pushes each version that a trainer writes, in one session. */
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { deltaFromOptions, fleetOptions, type Settings } from '../config.js';
import type { UpdateOptions } from '../update/types.js';
import type { CommandContext } from './context.js';
import { Monitor } from './monitor.js';
import { type FleetFlags, resolveSettings } from './options.js';
import { EXIT, exitCodeOfError, exitCodeOfReport, reportOf } from './outcome.js';
import { awaitReady } from './ready.js';
import { closeSession, connectOrAbort, type Session } from './session.js';
import { deltaTeller } from './watch/deltas.js';
import { patientLook } from './watch/listing.js';
import {
  NOTHING_PUSHED,
  planPush,
  type Replaced,
  type Step,
  versionOf,
  type WatchState,
} from './watch/planner.js';

export interface WatchFlags extends FleetFlags {
  /** Updates after which to end. */
  readonly maxUpdates?: number;
}

const DEFAULT_INTERVAL_SECONDS = 1;

/**
 * Follows the folder until a signal, or until `maxUpdates` updates were tried.
 * @returns the exit code of the last update; 130 when there was none
 */
export async function watch(directory: string, flags: WatchFlags, context: CommandContext): Promise<number> {
  const settings = await resolveSettings(flags);
  const fleet = fleetOptions(settings, context.io.env);
  const intervalMs = (settings.interval ?? DEFAULT_INTERVAL_SECONDS) * 1000;
  using monitor = new Monitor({ ...context, flags });
  const { signal } = monitor;

  await awaitReady(fleet, settings, { monitor, presetSeconds: null });
  const session = await connectOrAbort(context.connect, { ...fleet, onEvent: monitor.onEvent }, signal);
  try {
    let state: WatchState = NOTHING_PUSHED;
    let code: number | null = null;
    let updates = 0;
    const absent = existsSync(directory) ? '' : ', which is not there yet';
    if (flags.quiet !== true) monitor.say(`watching ${directory}${absent}`);
    const look = patientLook((text) => monitor.say(text));
    const tellDeltas = deltaTeller(directory, (text) => monitor.say(text));
    while (!signal.aborted && updates < (flags.maxUpdates ?? Number.POSITIVE_INFINITY)) {
      const lastStep = state.last?.kind === 'step' ? state.last.step : null;
      const listing = await look(directory, lastStep);
      await tellDeltas(listing.unmarked);
      const plan = planPush(listing, state);
      state = plan.state;
      if (plan.push === null) {
        await sleep(intervalMs, undefined, { signal }).catch(() => {});
        continue;
      }
      if (flags.quiet !== true) monitor.say(`pushing ${plan.push.path} as version ${versionOf(plan.push)}`);
      code = await pushOne(session, plan.push, { flags, context, monitor, delta: deltaOptions(settings) });
      updates += 1;
    }
    return code ?? EXIT.interrupted;
  } finally {
    await closeSession(session, (text) => monitor.say(text));
  }
}

interface Round {
  readonly flags: WatchFlags;
  readonly context: CommandContext;
  readonly monitor: Monitor;
  readonly delta: UpdateOptions;
}

function deltaOptions(settings: Settings): UpdateOptions {
  const from = deltaFromOptions(settings);
  return settings.delta === true || from.deltaFrom !== undefined ? { ...from, delta: true } : from;
}

/** One update, printed; whatever happens to it, the next version is tried. */
async function pushOne(session: Session, version: Step | Replaced, round: Round): Promise<number> {
  const { signal } = round.monitor;
  const name = versionOf(version);
  try {
    const report = await session.update(version.path, { ...round.delta, version: name, signal });
    round.monitor.report(report);
    return exitCodeOfReport(report, signal.aborted);
  } catch (error) {
    const report = reportOf(error);
    if (report !== null) round.monitor.report(report);
    else round.monitor.failed(error, { version: name });
    return exitCodeOfError(error, signal.aborted);
  }
}
