/**
 * Names in a publication directory:
 *
 *     step_<version>/                              a version; a reader believes only the manifest in it
 *     .weightcast/partial-<nonce>-step_<version>/  being written
 *     .weightcast/trash-<nonce>-step_<version>/    being removed
 *     .weightcast/owner-<nonce>.json               who does either
 *     .weightcast/manifest-<nonce>-step_<version>.json  of a version that is being removed where nothing can be renamed
 *     .weightcast/leases/                          who reads what
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';

export const MANIFEST_NAME = 'weightcast-manifest.json';
/** Everything that is ours and not a version. */
export const OWN_FOLDER = '.weightcast';
export const LEASES_FOLDER = join(OWN_FOLDER, 'leases');

const STEP = /^step_(0|[1-9]\d{0,15})$/;
const NONCE = /^[0-9a-f]{16}$/;
const LEFTOVER = /^(partial|trash)-([0-9a-f]{16})-step_(0|[1-9]\d{0,15})$/;
const KEPT_MANIFEST = /^manifest-([0-9a-f]{16})-step_(0|[1-9]\d{0,15})\.json$/;
const OWNER = /^owner-([0-9a-f]{16})\.json$/;
/** In a version's folder itself, where nothing can be renamed. */
const STEP_OWNER = /^weightcast-owner-([0-9a-f]{16})\.json$/;

/** What a folder in {@link OWN_FOLDER} is: a version that is being written, or one that is being removed. */
export interface Leftover {
  readonly kind: 'partial' | 'trash';
  readonly nonce: string;
  readonly version: number;
}

export function isVersion(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

export function newNonce(): string {
  return randomBytes(8).toString('hex');
}

export function isNonce(text: string): boolean {
  return NONCE.test(text);
}

export function stepName(version: number): string {
  return `step_${version}`;
}

/** The version that a folder's name says; null for any other name, also `step_007`, which no publisher writes. */
export function versionOfStep(name: string): number | null {
  return safe(STEP.exec(name)?.[1]);
}

/** Path of a version's folder. */
export function stepFolder(directory: string, version: number): string {
  return join(directory, stepName(version));
}

/** Path of a folder that holds what is not a version yet, or no longer one. */
export function leftoverFolder(directory: string, { kind, nonce, version }: Leftover): string {
  return join(directory, OWN_FOLDER, `${kind}-${nonce}-${stepName(version)}`);
}

export function parseLeftover(name: string): Leftover | null {
  const match = LEFTOVER.exec(name);
  const version = safe(match?.[3]);
  if (match === null || version === null) return null;
  return { kind: match[1] as Leftover['kind'], nonce: match[2] as string, version };
}

/** Path of the manifest of a version that the owner with this nonce removes, until it is known that nobody reads it. */
export function keptManifest(directory: string, nonce: string, version: number): string {
  return join(directory, OWN_FOLDER, `manifest-${nonce}-${stepName(version)}.json`);
}

export function nonceOfKeptManifest(name: string): string | null {
  return KEPT_MANIFEST.exec(name)?.[1] ?? null;
}

export function versionOfKeptManifest(name: string): number | null {
  return safe(KEPT_MANIFEST.exec(name)?.[2]);
}

export function ownerName(nonce: string): string {
  return `owner-${nonce}.json`;
}

export function nonceOfOwner(name: string): string | null {
  return OWNER.exec(name)?.[1] ?? null;
}

export function stepOwnerName(nonce: string): string {
  return `weightcast-owner-${nonce}.json`;
}

export function nonceOfStepOwner(name: string): string | null {
  return STEP_OWNER.exec(name)?.[1] ?? null;
}

function safe(digits: string | undefined): number | null {
  const version = Number(digits ?? Number.NaN);
  return isVersion(version) ? version : null;
}
