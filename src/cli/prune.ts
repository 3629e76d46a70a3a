/** `weightcast prune`: removes old versions from a publication directory. */
import { type PruneReport, prune as pruneDirectory } from '../transports/filesystem/retention/prune.js';
import type { CommandContext } from './context.js';
import { count, paint, printable, size } from './format.js';
import { FILES_ONLY, Monitor } from './monitor.js';
import { EXIT } from './outcome.js';

export interface PruneFlags {
  readonly keep?: number;
  readonly keepEvery?: number;
  /** Seconds. */
  readonly grace?: number;
  readonly dryRun?: boolean;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** Prunes and prints what went, or would go; 1 when something could not be removed. */
export async function prune(directory: string, flags: PruneFlags, context: CommandContext): Promise<number> {
  using monitor = new Monitor({ ...context, flags, words: FILES_ONLY });
  const { keep, keepEvery, grace, dryRun } = flags;
  const report = await pruneDirectory(directory, {
    ...{ keep, keepEvery, dryRun, signal: monitor.signal },
    graceMs: grace === undefined ? undefined : 1000 * grace,
  });
  const { out, err } = context.io;
  if (flags.json === true) out.write(`${JSON.stringify(report, null, 2)}\n`);
  else if (report.failed.length > 0) err.write(renderPrune(report, err.color));
  else if (flags.quiet !== true) out.write(renderPrune(report, out.color));
  return report.failed.length > 0 ? EXIT.failed : EXIT.ok;
}

const REASONS: Readonly<Record<PruneReport['kept'][number]['reason'], string>> = {
  newest: 'one of the newest',
  every: 'kept by its number',
  young: 'younger than the grace period',
  leased: 'somebody reads it',
  base: 'a delta needs it',
};

/** Several lines, each ended by a newline. */
export function renderPrune(report: PruneReport, color: boolean): string {
  const { dryRun, removed, kept, untouched, failed, swept } = report;
  if ([removed, kept, untouched, failed, swept].every(({ length }) => length === 0)) {
    return `nothing is published in ${printable(report.directory)}\n`;
  }
  const bytes = removed.reduce((sum, version) => sum + version.bytes, 0);
  const freed = removed.length === 0 ? '' : ` (${size(bytes)})`;
  const word = dryRun ? 'would be removed' : 'removed';
  const style = failed.length > 0 ? 'red' : 'green';
  const lines = [`${paint(color, style, word)}: ${count(removed.length, 'version')}${freed}`];
  for (const version of removed) lines.push(`  step_${version.version}  ${size(version.bytes)}`);
  lines.push(`kept: ${count(kept.length, 'version')}`);
  for (const { version, reason } of kept) lines.push(`  step_${version}  ${REASONS[reason]}`);
  for (const path of swept) lines.push(`left over, ${word}: ${printable(path)}`);
  for (const { path, reason } of untouched)
    lines.push(`not touched: ${printable(path)}: ${printable(reason)}`);
  for (const { path, reason } of failed)
    lines.push(`could not be removed: ${printable(path)}: ${printable(reason)}`);
  return `${lines.join('\n')}\n`;
}
