/** `weightcast follow`: keeps a local copy of what is published. */
import type { WeightcastError } from '../errors.js';
import { followPublished } from '../transports/filesystem/follow/index.js';
import type { Publication } from '../transports/filesystem/publish/index.js';
import type { CommandContext } from './context.js';
import { duration, printable, rate, size } from './format.js';
import { FILES_ONLY, Monitor } from './monitor.js';
import { EXIT, errorReport } from './outcome.js';

export interface FollowFlags {
  readonly into: string;
  readonly keep?: number;
  /** Seconds. */
  readonly interval?: number;
  readonly maxVersions?: number;
  readonly fsync?: boolean;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** Follows until a signal, or until `maxVersions` are there. @returns 0, or 130 when it was interrupted before there was one */
export async function follow(
  directory: string,
  flags: FollowFlags,
  context: CommandContext,
): Promise<number> {
  using monitor = new Monitor({ ...context, flags, words: FILES_ONLY });
  const { out } = context.io;
  const say = (text: string) => {
    if (flags.quiet !== true) monitor.say(text);
  };
  let beganMs: number | null = null;
  say(`following ${directory} into ${flags.into}`);
  const made = await followPublished(directory, {
    ...{ into: flags.into, keep: flags.keep, fsync: flags.fsync, maxVersions: flags.maxVersions },
    signal: monitor.signal,
    pollMs: flags.interval === undefined ? undefined : 1000 * flags.interval,
    onProgress: (_, bytes, totalBytes) => {
      beganMs ??= performance.now();
      monitor.onEvent({ kind: 'progress', phase: 'transfer', bytes, totalBytes });
    },
    onVersion: (publication) => {
      const elapsedMs = beganMs === null ? null : performance.now() - beganMs;
      beganMs = null;
      monitor.ended();
      if (flags.json === true) out.write(`${JSON.stringify(factsOf(publication))}\n`);
      else if (flags.quiet !== true) out.write(`${lineOf(publication, elapsedMs)}\n`);
    },
    onNothing: () => say(`nothing is published in ${printable(directory)} yet: waiting`),
    onRefused: (version, error) => refusedAs(version, error, { flags, context, monitor }),
  });
  return made === 0 && monitor.signal.aborted ? EXIT.interrupted : EXIT.ok;
}

function factsOf({ version, path, byteLength, manifest }: Publication) {
  return { version, path, bytes: byteLength, digest: manifest.digest };
}

function lineOf({ version, path, byteLength }: Publication, elapsedMs: number | null): string {
  const speed =
    elapsedMs === null || elapsedMs < 1
      ? ''
      : ` in ${duration(elapsedMs)}, ${rate((1000 * byteLength) / elapsedMs)}`;
  return `version ${version}: ${printable(path)} (${size(byteLength)}${speed})`;
}

interface Printing {
  readonly flags: FollowFlags;
  readonly context: CommandContext;
  readonly monitor: Monitor;
}

function refusedAs(version: number, error: WeightcastError, { flags, context, monitor }: Printing): void {
  monitor.ended();
  const plain = errorReport(error);
  if (flags.json === true) context.io.out.write(`${JSON.stringify({ version, error: plain })}\n`);
  else monitor.say(`version ${version} is not taken: ${printable(plain.message)}`);
}
