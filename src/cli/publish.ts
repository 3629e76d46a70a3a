/** `weightcast publish`: weights as a version in a publication directory. */
import { parseByteSize } from '../config/bytes.js';
import { WeightcastError } from '../errors.js';
import { tensorsOfManifest } from '../transports/filesystem/manifest.js';
import {
  type CommitMode,
  type Publication,
  publish as publishVersion,
} from '../transports/filesystem/publish/index.js';
import { type PruneReport, prune } from '../transports/filesystem/retention/prune.js';
import type { ErrorReport } from '../update/types.js';
import type { CommandContext } from './context.js';
import { count, duration, rate, size } from './format.js';
import { Interrupts } from './interrupts.js';
import { EXIT, errorReport } from './outcome.js';
import { ProgressView } from './progress.js';
import { renderPrune } from './prune.js';
import { errorLines } from './summary.js';

export interface PublishFlags {
  readonly into: string;
  readonly version: string;
  readonly commit: CommitMode;
  readonly fsync: boolean;
  readonly digests: boolean;
  readonly shardSize?: string;
  readonly grace?: string;
  readonly delta?: boolean;
  readonly deltaBase?: string;
  readonly anchorEvery?: number;
  readonly keep?: number;
  readonly keepEvery?: number;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/**
 * Publishes and prints what it was.
 * @throws WeightcastError what publish throws; WC_UPDATE_ABORTED after a signal
 */
export async function publish(
  weights: string,
  flags: PublishFlags,
  context: CommandContext,
): Promise<number> {
  const { io, source, exit } = context;
  const options = {
    directory: flags.into,
    version: wholeNumber(flags.version, '--version'),
    commit: flags.commit,
    fsync: flags.fsync,
    digests: flags.digests,
    shardBytes: flags.shardSize === undefined ? undefined : byteSize(flags.shardSize),
    graceMs: flags.grace === undefined ? undefined : 1000 * seconds(flags.grace),
    delta: flags.delta === true || flags.deltaBase !== undefined,
    deltaBase: flags.deltaBase,
    anchorEvery: flags.anchorEvery,
  };
  // Asked now: the version would be there when prune refuses it.
  if (flags.keep !== undefined && flags.keep < 2) throw invalid(`--keep ${flags.keep}: must be 2 or more`);
  using view = flags.quiet === true ? null : new ProgressView(io.err);
  const say = (text: string) => (view === null ? io.err.write(`${text}\n`) : view.line(text));
  using interrupts = new Interrupts({
    source,
    exit,
    begun: () => false,
    say,
    waiting: 'still removing what was written; a third signal leaves it for the next publisher to remove',
  });
  view?.event({ kind: 'phase', phase: 'opening' });
  const startedMs = performance.now();
  const published = await publishVersion(weights, {
    ...options,
    signal: interrupts.signal,
    onNote: say,
    onProgress: (bytes, totalBytes) => view?.event({ kind: 'progress', phase: 'writing', bytes, totalBytes }),
  });
  const elapsedMs = performance.now() - startedMs;
  const pruned = await retain(flags, interrupts.signal);
  view?.idle();
  if (flags.json === true) {
    io.out.write(`${JSON.stringify({ ...facts(published, elapsedMs), pruned }, null, 2)}\n`);
  } else {
    if (flags.quiet !== true) io.out.write(sentences(published, elapsedMs));
    if (pruned !== null && 'error' in pruned) {
      io.err.write(`${errorLines(pruned.error, io.err.color).join('\n')}\n`);
    } else if (pruned !== null && (flags.quiet !== true || pruned.failed.length > 0)) {
      const sink = pruned.failed.length > 0 ? io.err : io.out;
      sink.write(renderPrune(pruned, sink.color));
    }
  }
  return pruned !== null && ('error' in pruned || pruned.failed.length > 0) ? EXIT.failed : EXIT.ok;
}

/** The version is there, whatever becomes of the old ones. Null when nobody asked for it. */
async function retain(
  { into, keep, keepEvery }: PublishFlags,
  signal: AbortSignal,
): Promise<PruneReport | { readonly error: ErrorReport } | null> {
  if (keep === undefined && keepEvery === undefined) return null;
  try {
    return await prune(into, { keep, keepEvery, signal });
  } catch (error) {
    return { error: errorReport(error) };
  }
}

function facts({ version, path, manifest, byteLength, swept, stats }: Publication, elapsedMs: number) {
  const { kind, digest, digestAlgorithm, totalBytes, shards, files } = manifest;
  return {
    ...{ version, path, kind, digest, digestAlgorithm, totalBytes, byteLength },
    tensors: tensorsOfManifest(manifest).length,
    files: [...shards, ...files].map(({ name, byteLength }) => ({ name, byteLength })),
    ...{ swept, elapsedMs, stats },
  };
}

function sentences({ path, manifest, byteLength, swept }: Publication, elapsedMs: number): string {
  const { kind, digest, shards, files } = manifest;
  const what = `${count(tensorsOfManifest(manifest).length, 'tensor')} in ${count(shards.length, 'shard')}, ${count(files.length, 'other file')}`;
  const speed = elapsedMs > 0 ? `, ${rate((1000 * byteLength) / elapsedMs)}` : '';
  return [
    ...swept.map((left) => `removed what a publisher that died had left: ${left}\n`),
    `published ${path}${kind === 'full' ? '' : ` (${kind})`}\n`,
    `  ${what}, ${size(byteLength)} in ${duration(elapsedMs)}${speed}\n`,
    `  digest ${digest ?? 'none'}\n`,
  ].join('');
}

function wholeNumber(text: string, flag: string): number {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(value)) return value;
  throw invalid(`${flag} ${text}: must be a whole number from 0 to ${Number.MAX_SAFE_INTEGER}`);
}

function byteSize(text: string): number {
  const bytes = parseByteSize(text);
  if (bytes !== null && bytes >= 1) return bytes;
  throw invalid(`--shard-size ${text}: must be a size such as "5GB" or "512MiB"`);
}

function seconds(text: string): number {
  const value = /^\d{1,9}(\.\d{1,3})?$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isFinite(value)) return value;
  throw invalid(`--grace ${text}: must be seconds from 0 on`);
}

function invalid(message: string): WeightcastError {
  const remedy = '`weightcast publish --help` lists every option.';
  return new WeightcastError('WC_CONFIG_INVALID', message, { remedy });
}
