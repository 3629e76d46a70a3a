/** Where leases lie: `DIR/.weightcast/leases/step_<v>.<nonce>.json`. */
import { join } from 'node:path';
import { isNonce, LEASES_FOLDER, stepName, versionOfStep } from '../layout.js';

/**
 * Milliseconds without a renewal after which a lease is dead. The same for everybody who uses a directory: prune goes by it, and readers renew three times in
 * it.
 */
export const LEASE_TTL_MS = 60_000;

export function leaseFolder(directory: string): string {
  return join(directory, LEASES_FOLDER);
}

export function leaseName(version: number, nonce: string): string {
  return `${stepName(version)}.${nonce}.json`;
}

/** The version that a lease of this name holds; null for every other name. */
export function leasedVersion(name: string): number | null {
  const [step = '', nonce = '', ending, ...rest] = name.split('.');
  return isNonce(nonce) && ending === 'json' && rest.length === 0 ? versionOfStep(step) : null;
}
