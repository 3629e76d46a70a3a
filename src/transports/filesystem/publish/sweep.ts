/** Removes what publishers that died have left, and finishes the version that one had published without its marker. */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode } from '../../../errors.js';
import { thisProcess } from '../../../holder.js';
import {
  leftoverFolder,
  newNonce,
  nonceOfOwner,
  OWN_FOLDER,
  ownerName,
  parseLeftover,
  stepFolder,
  stepOwnerName,
} from '../layout.js';
import { codeOf, syncFolder, writeNew } from './durable.js';
import { isPublished, isThere, manifestOf } from './exists.js';
import { enterStep, leaveStep } from './manifest-last.js';
import { mark } from './marker.js';
import {
  type Clock,
  clockOf,
  encodeOwner,
  GRACE_MS,
  isLeftOver,
  mtimeMs,
  newOwner,
  type Owner,
  readOwner,
} from './owner.js';

/** By which somebody asked for the file system's time, and died before he removed it. */
const PROBE = /^\.weightcast-[0-9a-f-]{36}$/;

export interface SweepOptions {
  /** Milliseconds after which what nobody has written to is left over, when its owner can't be seen from here. Default an hour. */
  readonly graceMs?: number | undefined;
  /** Only says what would be removed. */
  readonly dryRun?: boolean | undefined;
}

/**
 * Sweeps a publication directory.
 *
 * @returns the paths of what was removed
 * @throws the system's errors
 */
export async function sweepLeftovers(
  directory: string,
  options: SweepOptions = {},
): Promise<readonly string[]> {
  const own = join(directory, OWN_FOLDER);
  const names = await readdir(own).catch((error: unknown) => {
    if (codeOf(error) === 'ENOENT') return [];
    throw error;
  });
  const found = names.flatMap((name) => {
    const leftover = parseLeftover(name);
    const nonce = leftover?.nonce ?? nonceOfOwner(name);
    // What is being removed is the business of retention.
    return nonce === null || leftover?.kind === 'trash' ? [] : [{ nonce, leftover }];
  });
  const probes = names.filter((name) => PROBE.test(name)).map((name) => join(own, name));
  if (found.length === 0 && probes.length === 0) return [];
  const clock = await clockOf(directory, options.graceMs ?? GRACE_MS, await thisProcess());
  const removed: string[] = [];
  for (const probe of probes) {
    if (clock.nowMs - (await mtimeMs(probe)) <= clock.graceMs) continue;
    if (options.dryRun !== true) await rm(probe, { force: true });
    removed.push(probe);
  }
  for (const nonce of new Set(found.map((each) => each.nonce))) {
    const partials = found
      .flatMap((each) => (each.nonce === nonce && each.leftover !== null ? [each.leftover] : []))
      .map((leftover) => leftoverFolder(directory, leftover));
    removed.push(...(await sweepOne({ directory, nonce, partials, clock, dryRun: options.dryRun ?? false })));
  }
  return removed;
}

interface Suspect {
  readonly directory: string;
  readonly nonce: string;
  readonly partials: readonly string[];
  readonly clock: Clock;
  readonly dryRun: boolean;
}

async function sweepOne({ directory, nonce, partials, clock, dryRun }: Suspect): Promise<readonly string[]> {
  const ownerPath = join(directory, OWN_FOLDER, ownerName(nonce));
  const owner = await readOwner(ownerPath);
  const steps = owner === null ? [] : [stepFolder(directory, owner.version)];
  if (!(await isLeftOver(owner, [ownerPath, ...partials, ...steps], clock))) return [];
  const unfinished = owner === null ? null : await unfinishedStep(directory, owner);
  const removed = [...partials, ...(unfinished === null ? [] : [unfinished])];
  if (dryRun) return removed;
  for (const partial of partials) await rm(partial, { recursive: true, force: true });
  if (owner !== null) {
    if (unfinished !== null && !(await cleaned(directory, owner.version, clock))) return partials;
    await finish(directory, owner);
  }
  await rm(ownerPath, { force: true });
  return removed;
}

/** The folder in which this owner wrote files, and no manifest. */
async function unfinishedStep(directory: string, { nonce, version }: Owner): Promise<string | null> {
  const step = stepFolder(directory, version);
  if (!(await isThere(join(step, stepOwnerName(nonce))))) return null;
  return (await isPublished(step)) ? null : step;
}

/** @returns false when somebody writes that version now: he has done it, or will */
async function cleaned(directory: string, version: number, clock: Clock): Promise<boolean> {
  const owner = await newOwner(newNonce(), version);
  const ownerPath = join(directory, OWN_FOLDER, ownerName(owner.nonce));
  try {
    // As a publisher does: who sweeps may die over it too.
    await writeNew(ownerPath, encodeOwner(owner), false);
    await enterStep(directory, owner, clock.graceMs);
    await leaveStep(stepFolder(directory, version), owner, []);
    return true;
  } catch (error) {
    if (hasCode(error, 'WC_PUBLISH_BUSY') || hasCode(error, 'WC_PUBLISH_EXISTS')) return false;
    throw error;
  } finally {
    await rm(ownerPath, { force: true });
  }
}

/** A version is one once its manifest is there: its marker is only late. */
async function finish(directory: string, { nonce, version }: Owner): Promise<void> {
  const step = stepFolder(directory, version);
  const manifest = await manifestOf(step);
  if (manifest?.publisher.nonce !== nonce) return;
  await syncFolder(step);
  await syncFolder(directory);
  await mark(step, manifest.kind, true).catch((error: unknown) => {
    if (codeOf(error) !== 'EEXIST' && codeOf(error) !== 'ENOENT') throw error;
  });
  await rm(join(step, stepOwnerName(nonce)), { force: true });
}
