/** `weightcast push`: one update of a fleet. */
import { deltaFromOptions, fleetOptions, type Settings } from '../config.js';
import type { UpdateOptions, UpdateReport } from '../update/types.js';
import type { CommandContext } from './context.js';
import { Monitor } from './monitor.js';
import { type FleetFlags, resolveSettings } from './options.js';
import { exitCodeOfReport, reportOf } from './outcome.js';
import { awaitReady } from './ready.js';
import { closeSession, connectOrAbort } from './session.js';

const JSON_INDENT = 2;

/**
 * Pushes the weights and prints the report; the exit code says how it ended.
 * @throws WeightcastError when it ended without a report: wrong options, an engine that can't be reached
 */
export async function push(weights: string, flags: FleetFlags, context: CommandContext): Promise<number> {
  const settings = await resolveSettings(flags);
  const fleet = fleetOptions(settings, context.io.env);
  using monitor = new Monitor({ ...context, flags });

  await awaitReady(fleet, settings, { monitor, presetSeconds: null });
  const session = await connectOrAbort(
    context.connect,
    { ...fleet, onEvent: monitor.onEvent },
    monitor.signal,
  );
  try {
    const report = await settled(
      session.update(weights, { ...updateOptions(settings), signal: monitor.signal }),
    );
    monitor.report(report, JSON_INDENT);
    return exitCodeOfReport(report, monitor.signal.aborted);
  } finally {
    await closeSession(session, (text) => monitor.say(text));
  }
}

function updateOptions(settings: Settings): UpdateOptions {
  const { weight_version: version } = settings;
  return { ...deltaFromOptions(settings), ...(version === undefined ? {} : { version }) };
}

/** The report, whether the update was reached or not; other errors pass. */
async function settled(update: Promise<UpdateReport>): Promise<UpdateReport> {
  try {
    return await update;
  } catch (error) {
    const report = reportOf(error);
    if (report === null) throw error;
    return report;
  }
}
