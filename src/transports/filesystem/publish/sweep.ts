/** Removes what publishers that died have left, and finishes the version that one had published without its marker. */
import { readdir, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode } from '../../../errors.js';
import { thisProcess } from '../../../holder.js';
import { askedOfFileSystem, byOwnClock, isProbe } from '../clock.js';
import {
  leftoverFolder,
  newNonce,
  nonceOfKeptManifest,
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
import { wouldRestore } from './undo.js';

export interface SweepOptions {
  /** Milliseconds after which what nobody has written to is left over, when its owner can't be seen from here. Default an hour. */
  readonly graceMs?: number | undefined;
  /** Only says what would be removed, as far as this machine's clock can tell, and writes nothing. */
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
    const nonce = leftover?.nonce ?? nonceOfOwner(name) ?? nonceOfKeptManifest(name);
    // What is being removed is the business of retention.
    return nonce === null || leftover?.kind === 'trash' ? [] : [{ nonce, leftover }];
  });
  const probes = names.filter(isProbe).map((name) => join(own, name));
  if (found.length === 0 && probes.length === 0) return [];
  const timeIn = options.dryRun === true ? byOwnClock : askedOfFileSystem;
  const clock = await clockOf(directory, options.graceMs ?? GRACE_MS, await thisProcess(), timeIn);
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
    const kept = names.filter((name) => nonceOfKeptManifest(name) === nonce).map((name) => join(own, name));
    const { dryRun = false } = options;
    removed.push(...(await sweepOne({ directory, nonce, partials, kept, clock, dryRun })));
  }
  return removed;
}

interface Suspect {
  readonly directory: string;
  readonly nonce: string;
  readonly partials: readonly string[];
  /** Manifests of what it was removing. */
  readonly kept: readonly string[];
  readonly clock: Clock;
  readonly dryRun: boolean;
}

async function sweepOne(suspect: Suspect): Promise<readonly string[]> {
  const { directory, nonce, partials, kept, clock, dryRun } = suspect;
  const ownerPath = join(directory, OWN_FOLDER, ownerName(nonce));
  const owner = await readOwner(ownerPath);
  const steps = owner === null ? [] : [stepFolder(directory, owner.version)];
  if (!(await isLeftOver(owner, [ownerPath, ...partials, ...kept, ...steps], clock))) return [];
  const unfinished = owner === null ? null : await unfinishedStep(directory, owner);
  const removed = [...partials, ...(unfinished === null ? [] : [unfinished])];
  if (dryRun) {
    const comesBack = unfinished !== null && owner !== null && (await wouldRestore(directory, owner));
    return comesBack ? partials : removed;
  }
  for (const partial of partials) await rm(partial, { recursive: true, force: true });
  let left = unfinished;
  if (owner !== null) {
    if (left !== null && !(await cleaned(directory, owner.version, clock))) {
      if (!(await isPublished(left))) return partials;
      left = null;
    }
    await finish(directory, owner);
  }
  for (const path of kept) await rm(path, { force: true });
  await rm(ownerPath, { force: true });
  return left === unfinished ? removed : partials;
}

/** The folder in which this owner wrote files, and no manifest. */
async function unfinishedStep(directory: string, { nonce, version }: Owner): Promise<string | null> {
  const step = stepFolder(directory, version);
  if (!(await isThere(join(step, stepOwnerName(nonce))))) return null;
  return (await isPublished(step)) ? null : step;
}

/** @returns false when somebody else is at that version now, or it is one again */
async function cleaned(directory: string, version: number, clock: Clock): Promise<boolean> {
  const owner = await newOwner(newNonce(), version);
  const ownerPath = join(directory, OWN_FOLDER, ownerName(owner.nonce));
  try {
    // As a publisher does: who sweeps may die over it too.
    await writeNew(ownerPath, encodeOwner(owner), false);
    await enterStep(directory, owner, clock.graceMs);
    const step = stepFolder(directory, version);
    await leaveStep(step, owner, []);
    return !(await isThere(step));
  } catch (error) {
    if (hasCode(error, 'WC_PUBLISH_BUSY') || hasCode(error, 'WC_PUBLISH_EXISTS')) return false;
    throw error;
  } finally {
    await rm(ownerPath, { force: true });
  }
}

/** A version is one once its manifest is there: its marker is only late. A folder in which nothing is goes. */
async function finish(directory: string, { nonce, version }: Owner): Promise<void> {
  const step = stepFolder(directory, version);
  const manifest = await manifestOf(step);
  if (manifest === null) {
    // Empty: it died before it had written there, or after it had removed all.
    await rmdir(step).catch(() => undefined);
    return;
  }
  if (manifest.publisher.nonce === nonce) {
    await syncFolder(step);
    await syncFolder(directory);
    await mark(step, manifest.kind, true).catch((error: unknown) => {
      if (codeOf(error) !== 'EEXIST' && codeOf(error) !== 'ENOENT') throw error;
    });
  }
  await rm(join(step, stepOwnerName(nonce)), { force: true });
}
