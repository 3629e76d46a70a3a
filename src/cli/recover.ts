/** `weightcast recover`: puts engines right after a push that was killed. */
import { fleetOptions } from '../config.js';
import { type RecoveryReport, recoverFleet } from '../update/index.js';
import type { CommandContext } from './context.js';
import { count, paint, printable } from './format.js';
import { Monitor } from './monitor.js';
import { type FleetFlags, resolveSettings } from './options.js';
import { EXIT } from './outcome.js';
import { engineLines } from './summary.js';

export interface RecoverFlags extends FleetFlags {
  /** Checkpoint directory. */
  readonly from?: string;
}

const CODES = { recovered: EXIT.ok, quarantined: EXIT.quarantined, failed: EXIT.failed } as const;

/** Recovers, prints what was found and done, and says by the exit code whether every engine serves. */
export async function recover(flags: RecoverFlags, context: CommandContext): Promise<number> {
  const settings = await resolveSettings(flags);
  const fleet = fleetOptions(settings, context.io.env);
  using monitor = new Monitor({ ...context, flags });
  const { signal, onEvent } = monitor;
  const report = await recoverFleet({ ...fleet, onEvent }, { from: flags.from, signal });
  monitor.ended();
  const { out, err } = context.io;
  if (flags.json === true) out.write(`${JSON.stringify(report, null, 2)}\n`);
  else if (report.outcome !== 'recovered') err.write(renderRecovery(report, err.color));
  else if (flags.quiet !== true) out.write(renderRecovery(report, out.color));
  return CODES[report.outcome];
}

/** Several lines, each ended by a newline. */
export function renderRecovery(report: RecoveryReport, color: boolean): string {
  const { outcome, engines, found, notes } = report;
  const serving = engines.filter(({ state }) => state.startsWith('serving')).length;
  const head = `${serving} of ${count(engines.length, 'engine')} ${serving === 1 ? 'serves' : 'serve'}`;
  const lines = [`${paint(color, outcome === 'recovered' ? 'green' : 'red', outcome)}: ${head}`];
  if (found.length === 0) lines.push('  found     no record of a push that died');
  for (const text of found) lines.push(`  found     ${printable(text)}`);
  for (const engine of engines) {
    lines.push(...engineLines(engine, null, color));
    if (engine.history.length === 1 && engine.state.startsWith('serving'))
      lines.push('            left alone: it serves');
  }
  for (const note of notes) lines.push(`  note: ${printable(note)}`);
  if (outcome === 'quarantined') {
    lines.push(
      '  remedy: Push again, or run weightcast recover --from DIR with a good checkpoint; restart an engine that does not answer.',
    );
  }
  return `${lines.join('\n')}\n`;
}
